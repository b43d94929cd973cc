//! A system that refuses calls, or keeps all memory resident. Each test needs a [child
//! process](crate::child), because neither can be undone.

/// The result of a refused system call: an error, or success without an effect.
pub const ANSWERS: [i32; 4] = [libc::EPERM, libc::EINVAL, libc::ENOSYS, 0];

/// Makes these system calls of this thread return `answer` (an error number, or 0 for success
/// without effect) from now on. Returns false, with a message, if filters are not permitted.
#[must_use]
pub fn refuse(calls: &[libc::c_long], answer: i32) -> bool {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let give = libc::BPF_RET | libc::BPF_K;
    let mut filter = vec![step(load, 0, 0, 0)];
    for (at, &call) in calls.iter().enumerate() {
        let to_the_end = (calls.len() - at) as u8;
        filter.push(step(equal, to_the_end, 0, call as u32));
    }
    filter.push(step(give, 0, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(step(give, 0, 0, libc::SECCOMP_RET_ERRNO | answer as u32));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a plain system call.
    let bound = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0;
    // SAFETY: the program has the stated length, and the kernel copies it.
    let set =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }
            == 0;
    if !bound || !set {
        eprintln!("skipped: seccomp filters are not permitted here");
    }
    bound && set
}

/// Locks the memory of this process. Returns false, with a message, if that is not permitted.
#[must_use]
pub fn lock_memory(flags: i32) -> bool {
    // SAFETY: a plain system call.
    let locked = unsafe { libc::mlockall(flags) } == 0;
    if !locked {
        eprintln!("skipped: mlockall is not permitted here (RLIMIT_MEMLOCK)");
    }
    locked
}
