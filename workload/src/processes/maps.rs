//! Parses `/proc/PID/maps` and finds the anonymous memory that a process can write.

use std::ops::Range;

/// Larger regions are left out. They are reserved address space that is sparsely used, such as the
/// shadow memory of sanitizers, and with pages of 4 KiB their `pagemap` alone would be more than
/// 512 MiB to read.
pub(crate) const MAX_REGION_BYTES: u64 = 256 << 30;

/// A mapping that may hold anonymous pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MappedRange {
    /// The addresses, multiples of the page size.
    pub(crate) span: Range<u64>,
    /// Whether the region is shared between processes. Reading an absent page of a shared region
    /// would allocate it.
    pub(crate) shared: bool,
}

/// Parses a `maps` file into regions, in its order. Lines that we do not understand are left out.
pub(crate) fn parse_maps(text: &str) -> Vec<MappedRange> {
    text.lines().filter_map(parse_line).collect()
}

/// `7f1c00000000-7f1c00021000 rw-p 00000000 00:00 0    [heap]`
fn parse_line(line: &str) -> Option<MappedRange> {
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
        .then_some(MappedRange { span, shared: *share == b's' })
}

/// Returns whether a mapping is anonymous memory. It is an allow-list, so names of later kernels
/// are left out.
fn is_anonymous(device: &str, inode: &str, name: &str) -> bool {
    if inode == "0" {
        return name.is_empty()
            || name == "[heap]"
            || name.starts_with("[anon:")
            || name.starts_with("[anon_shmem:");
    }
    // Shared anonymous memory has one of these names and an inode in an internal file system of the
    // kernel, which has major number 0. A private mapping of /dev/zero is anonymous memory too,
    // although its name is a device.
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
            "55a000000000-55a000021000 rw-p 00000000 00:00 0           [heap]",
            "7f1c00000000-7f1c00021000 rwxp 00000000 00:00 0           [anon:v8 code]",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:01 1031           /dev/zero (deleted)",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:01 32769           /SYSV00000000 (deleted)",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:01 1032           /memfd:wayland (deleted)",
        ] {
            assert!(taken(line), "{line}");
        }
    }

    /// Stacks, kernel pages, files, devices and read-only memory are left out.
    #[test]
    fn other_mappings_are_left_out() {
        for line in [
            "7ffeb8896000-7ffeb88b7000 rw-p 00000000 00:00 0           [stack]",
            "7ffeb88d3000-7ffeb88d7000 r--p 00000000 00:00 0           [vvar]",
            "7ffeb88d7000-7ffeb88d9000 r-xp 00000000 00:00 0           [vdso]",
            "7ffeb88d7000-7ffeb88d9000 rw-p 00000000 00:00 0           [vvar_vclock]",
            "7f1c00000000-7f1c00021000 r--p 00000000 00:00 0 ",
            "7f1c00000000-7f1c00021000 ---p 00000000 00:00 0 ",
            "7f1c00000000-7f1c00021000 -w-p 00000000 00:00 0 ",
            "7f1c00000000-7f1c00021000 rw-p 0001c000 fe:01 1234           /usr/lib/libc.so.6",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:1a 77           /dev/shm/queue",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:05 411           /dev/dri/renderD128",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:0e 10           anon_inode:[perf_event]",
            "7f1c00000000-7f1c00021000 rw-s 00000000 00:0f 10           /anon_inode:[io_uring]",
            "7f1c00000000-7f1c00021000 rw-p 00000000 08:01 77           /memfd:a real file",
            "100000000000-500000000000 rw-p 00000000 00:00 0 ",
            "",
            "not a line of maps",
            "zz-yy rw-p 00000000 00:00 0",
            "2000-1000 rw-p 00000000 00:00 0",
        ] {
            assert!(!taken(line), "{line}");
        }
    }

    /// This process has private regions, and all regions are page-aligned.
    #[test]
    fn own_regions_are_page_aligned() {
        let regions = parse_maps(&std::fs::read_to_string("/proc/self/maps").unwrap());
        let page = rustix::param::page_size() as u64;
        assert!(regions.iter().any(|region| !region.shared));
        assert!(regions.iter().all(|r| r.span.start % page == 0
            && r.span.end % page == 0
            && r.span.start < r.span.end));
    }
}
