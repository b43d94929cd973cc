//! Which parts of a process' address space are anonymous memory that it writes: the lines of `/proc/PID/maps`.

use std::ops::Range;

/// Regions above this are left out: nobody fills them. They are address space that is reserved and sparsely used (shadow
/// memory of sanitizers, sparse heaps), and with pages of 4 KiB their `pagemap` alone would be more than half a GiB to read.
pub(crate) const MAX_REGION_BYTES: u64 = 256 << 30;

/// A mapping that may hold anonymous pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// Addresses, multiples of the page size.
    pub(crate) span: Range<u64>,
    /// Shared between processes: reading a page that is not there would allocate it.
    pub(crate) shared: bool,
}

/// The regions of a `maps` file, in its order; lines that are not understood are left out.
pub(crate) fn parse_maps(text: &str) -> Vec<Region> {
    text.lines().filter_map(parse_line).collect()
}

/// `7f1c00000000-7f1c00021000 rw-p 00000000 00:00 0    [heap]`
fn parse_line(line: &str) -> Option<Region> {
    let (span, rest) = line.split_once(' ')?;
    let (permissions, rest) = rest.split_once(' ')?;
    let (_offset, rest) = rest.split_once(' ')?;
    let (device, rest) = rest.split_once(' ')?;
    // The name follows after spaces, or is missing.
    let (inode, name) = rest.split_once(' ').unwrap_or((rest, ""));
    let (start, end) = span.split_once('-')?;
    let span = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
    let [read, write, _, share] = permissions.as_bytes().first_chunk()?;
    let size = span.end.checked_sub(span.start)?;
    if (*read, *write) != (b'r', b'w') || size > MAX_REGION_BYTES {
        return None;
    }
    is_anonymous(device, inode, name.trim_start())
        .then_some(Region { span, shared: *share == b's' })
}

/// A list of what is taken, not of what is left out: stacks, kernel pages, files, devices and whatever a later kernel names.
fn is_anonymous(device: &str, inode: &str, name: &str) -> bool {
    if inode == "0" {
        return name.is_empty()
            || name == "[heap]"
            || name.starts_with("[anon:")
            || name.starts_with("[anon_shmem:");
    }
    // Shared anonymous memory has an inode in a file system of the kernel's own, which no disk backs (major number 0),
    // and one of these names. /dev/zero mapped privately is anonymous too; its name is a device, its memory is not.
    let kernels_own = device.starts_with("00:");
    kernels_own
        && ["/dev/zero", "/SYSV", "/memfd:", "[anon_shmem:"].iter().any(|own| name.starts_with(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(line: &str) -> bool {
        let regions = parse_maps(line);
        assert!(regions.len() <= 1);
        regions.len() == 1
    }

    #[test]
    fn anonymous_memory_is_taken() {
        for line in [
            "7f1c00000000-7f1c00021000 rw-p 00000000 00:00 0 ",
            "7f1c00000000-7f1c00021000 rw-p 00000000 00:00 0",
            "55a000000000-55a000021000 rw-p 00000000 00:00 0                          [heap]",
            "7f1c00000000-7f1c00021000 rwxp 00000000 00:00 0                          [anon:v8 code]",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:01 1031                       /dev/zero (deleted)",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:01 32769                      /SYSV00000000 (deleted)",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:01 1032                       /memfd:wayland (deleted)",
        ] {
            assert!(taken(line), "{line}");
        }
    }

    #[test]
    fn stacks_kernel_pages_files_devices_and_read_only_memory_are_not() {
        for line in [
            "7ffeb8896000-7ffeb88b7000 rw-p 00000000 00:00 0                          [stack]",
            "7ffeb88d3000-7ffeb88d7000 r--p 00000000 00:00 0                          [vvar]",
            "7ffeb88d7000-7ffeb88d9000 r-xp 00000000 00:00 0                          [vdso]",
            "7ffeb88d7000-7ffeb88d9000 rw-p 00000000 00:00 0                          [vvar_vclock]",
            "7f1c00000000-7f1c00021000 r--p 00000000 00:00 0 ",
            "7f1c00000000-7f1c00021000 ---p 00000000 00:00 0 ",
            "7f1c00000000-7f1c00021000 -w-p 00000000 00:00 0 ",
            "7f1c00000000-7f1c00021000 rw-p 0001c000 fe:01 1234                       /usr/lib/libc.so.6",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:1a 77                         /dev/shm/queue",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:05 411                        /dev/dri/renderD128",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:0e 10                         anon_inode:[perf_event]",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:0f 10                         /anon_inode:[io_uring]",
            "7f1c00000000-7f1c00021000 rw-p 00000000 08:01 77                         /memfd:a real file",
            "100000000000-500000000000 rw-p 00000000 00:00 0 ",
            "",
            "not a line of maps",
            "zz-yy rw-p 00000000 00:00 0",
            "2000-1000 rw-p 00000000 00:00 0",
        ] {
            assert!(!taken(line), "{line}");
        }
    }

    #[test]
    fn the_own_process_has_private_regions_that_are_page_aligned() {
        let regions = parse_maps(&std::fs::read_to_string("/proc/self/maps").unwrap());
        let page = rustix::param::page_size() as u64;
        assert!(regions.iter().any(|region| !region.shared));
        assert!(regions.iter().all(|r| r.span.start % page == 0
            && r.span.end % page == 0
            && r.span.start < r.span.end));
    }
}
