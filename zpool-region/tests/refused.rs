//! A system that has no userfaultfd refuses a region, and says so in one line.

#![cfg(target_os = "linux")]

use std::process::Command;

use zpool_region::{Region, RegionError};

const CHILD: &str = "ZPOOL_REGION_REFUSED";

/// Makes the system refuse userfaultfd to this thread, as sandboxes do.
#[allow(unsafe_code, reason = "a filter of system calls has no safe interface")]
fn refuse_userfaultfd() -> std::io::Result<()> {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const ERRNO: u32 = libc::SECCOMP_RET_ERRNO;
    /// The ioctl of /dev/userfaultfd.
    const NEW: u32 = 0xAA00;
    let load = |offset| libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset,
    };
    let skip_unless = |value, skipped| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: skipped,
        k: value,
    };
    let end = |result| libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: result,
    };
    // The number of the call is at 0, and the low half of its second argument at 24 or 28.
    let second = if cfg!(target_endian = "little") { 24 } else { 28 };
    let mut program = [
        load(0),
        skip_unless(libc::SYS_userfaultfd as u32, 1),
        end(ERRNO | libc::ENOSYS as u32),
        skip_unless(libc::SYS_ioctl as u32, 3),
        load(second),
        skip_unless(NEW, 1),
        end(ERRNO | libc::ENOTTY as u32),
        end(ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: only gives up privileges of this thread.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the filter is valid during the call, which copies it.
    let set =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// `build` is an error that differs from those of wrong settings, and its message is one line.
#[test]
fn build_refused_without_userfaultfd() {
    if std::env::var_os(CHILD).is_none() {
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "build_refused_without_userfaultfd", "--nocapture"])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(ended.success(), "{ended:?}");
        return;
    }
    if let Err(error) = refuse_userfaultfd() {
        println!("skipped: no filters of system calls here: {error}");
        return;
    }
    let error = Region::builder().len(1 << 20).build().expect_err("there is no userfaultfd");
    assert!(matches!(error, RegionError::NoUserfaultfd(_)), "{error:?}");
    assert!(error.is_unsupported());
    let message = error.to_string();
    assert!(message.starts_with("userfaultfd is not available") && !message.contains('\n'));
}
