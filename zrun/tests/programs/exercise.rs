//! A program for the tests of zrun: it uses memory in the way that its argument names, and prints
//! sums of what it finds there. It knows nothing of zrun, so its output is the same with and
//! without.

#![allow(unsafe_code, reason = "calls the functions that zrun replaces")]

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::ptr;
use std::thread;

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;
/// Three times the limit of the tests.
const LARGE: usize = 48 * MIB;

/// A mapping of this program's, by its address and length.
#[derive(Clone, Copy)]
struct Map {
    start: usize,
    len: usize,
}

impl Map {
    fn new(len: usize) -> Map {
        Map::with(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, 0)
    }

    fn with(at: *mut libc::c_void, len: usize, access: c_int, flags: c_int) -> Map {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
        // SAFETY: anonymous memory, over our own if it is fixed.
        let start = unsafe { libc::mmap(at, len, access, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Map { start: start.expose_provenance(), len }
    }

    fn at(self, offset: usize) -> *mut libc::c_void {
        ptr::with_exposed_provenance_mut(self.start + offset)
    }

    #[allow(clippy::mut_from_ref, reason = "the program is careful")]
    fn bytes(&self, range: Range<usize>) -> &mut [u8] {
        // SAFETY: inside the mapping; no two such slices overlap at a time.
        unsafe { std::slice::from_raw_parts_mut(self.at(range.start).cast(), range.len()) }
    }

    fn fill(self, seed: u64) -> Map {
        fill(self.bytes(0..self.len), seed);
        self
    }

    fn sum(self) -> u64 {
        sum(self.bytes(0..self.len))
    }

    fn unmap(self, range: Range<usize>) {
        // SAFETY: our own, and not used any more.
        assert_eq!(unsafe { libc::munmap(self.at(range.start), range.len()) }, 0);
    }

    fn advise(self, range: Range<usize>, advice: c_int) -> c_int {
        // SAFETY: our own.
        unsafe { libc::madvise(self.at(range.start), range.len(), advice) }
    }

    fn protect(self, range: Range<usize>, access: c_int) {
        // SAFETY: our own.
        assert_eq!(unsafe { libc::mprotect(self.at(range.start), range.len(), access) }, 0);
    }

    fn remap(self, len: usize, flags: c_int) -> Option<Map> {
        // SAFETY: our own, and not used by its old address any more.
        let start = unsafe { libc::mremap(self.at(0), self.len, len, flags) };
        (start != libc::MAP_FAILED).then(|| Map { start: start.expose_provenance(), len })
    }

    /// Puts everything away, where there is something to put it.
    fn put_away(self) {
        assert_eq!(self.advise(0..self.len, libc::MADV_PAGEOUT), 0);
    }
}

/// Fills bytes with words that compress to about a half.
fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for pair in bytes.chunks_mut(16) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for half in pair.chunks_mut(8) {
            half.copy_from_slice(&state.to_le_bytes()[..half.len()]);
        }
    }
}

/// Returns a sum that depends on every byte and on its place.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum: u64, &byte| {
        sum.wrapping_mul(0x0100_0000_01B3).wrapping_add(u64::from(byte) + 1)
    })
}

fn maps() {
    let map = Map::new(LARGE).fill(1);
    println!("{}", map.sum());
    // Parts in the middle and at both ends go, and the rest stays.
    map.unmap(0..MIB);
    map.unmap(8 * MIB..9 * MIB + PAGE);
    map.unmap(LARGE - MIB..LARGE);
    println!("{}", sum(map.bytes(MIB..8 * MIB)));
    println!("{}", sum(map.bytes(9 * MIB + PAGE..LARGE - MIB)));
    // Memory that was used before is zeros again.
    let again = Map::new(LARGE / 2);
    assert!(again.bytes(0..again.len).iter().all(|&byte| byte == 0));
    // A whole range goes that was unmapped in part.
    map.unmap(0..LARGE);
    let many: Vec<Map> = (0..40).map(|at| Map::new(MIB + at * PAGE).fill(at as u64)).collect();
    many.iter().step_by(2).for_each(|map| map.unmap(0..map.len));
    let sums = many.iter().skip(1).step_by(2).map(|map| map.sum());
    println!("{:?}", sums.collect::<Vec<_>>());
}

fn remaps() {
    let mut map = Map::new(2 * MIB).fill(2);
    // Something in the way of growing.
    let _fence = Map::new(2 * MIB).fill(3);
    for len in [3 * MIB, 9 * MIB, 40 * MIB, 5 * MIB, 5 * MIB - PAGE, LARGE] {
        let kept = map.len.min(len);
        let before = sum(map.bytes(0..kept));
        map = map.remap(len, libc::MREMAP_MAYMOVE).expect("a mapping can be resized");
        assert_eq!(sum(map.bytes(0..kept)), before, "at {len}");
        let new = map.bytes(kept..len);
        assert!(new.iter().all(|&byte| byte == 0), "at {len}");
        fill(new, len as u64);
    }
    println!("{}", map.sum());
    assert!(map.remap(0, libc::MREMAP_MAYMOVE).is_none());
    println!("{}", map.sum());
}

fn advice() {
    let map = Map::new(LARGE).fill(4);
    map.put_away();
    for hint in [libc::MADV_SEQUENTIAL, libc::MADV_WILLNEED, libc::MADV_HUGEPAGE] {
        map.advise(0..LARGE, hint);
    }
    println!("{}", map.sum());
    for (at, advice) in [(MIB, libc::MADV_DONTNEED), (7 * MIB + PAGE, libc::MADV_DONTNEED)] {
        assert_eq!(map.advise(at..at + 3 * MIB, advice), 0);
        assert!(map.bytes(at..at + 3 * MIB).iter().all(|&byte| byte == 0));
    }
    assert_eq!(map.advise(20 * MIB..22 * MIB, libc::MADV_POPULATE_WRITE), 0);
    println!("{}", map.sum());
    assert_eq!(map.advise(0..LARGE, -77), -1);
}

fn protection() {
    let map = Map::new(LARGE).fill(5);
    map.protect(0..LARGE / 2, libc::PROT_READ);
    map.put_away();
    println!("{}", map.sum());
    // A system call tells whether a page may be written, without a signal.
    let zero = std::fs::File::open("/dev/zero").expect("zeros");
    let writable = |at: usize| {
        // SAFETY: our own memory, or none.
        unsafe { libc::read(zero.as_raw_fd(), map.at(at), 8) == 8 }
    };
    println!("{} {}", writable(MIB), writable(LARGE - MIB));
    map.protect(MIB..2 * MIB, libc::PROT_NONE);
    println!("{}", writable(MIB));
    map.protect(0..LARGE, libc::PROT_READ | libc::PROT_WRITE);
    println!("{} {}", map.sum(), writable(MIB));
    map.protect(0..LARGE / 2, libc::PROT_NONE);
    map.unmap(0..LARGE);
    println!("{}", Map::new(LARGE).fill(6).sum());
}

fn fixed() {
    let map = Map::new(LARGE).fill(7);
    map.put_away();
    // Ordinary memory over a part, and a file over another.
    let flags = libc::MAP_FIXED;
    Map::with(map.at(4 * MIB), 2 * MIB, libc::PROT_READ | libc::PROT_WRITE, flags);
    assert!(map.bytes(4 * MIB..6 * MIB).iter().all(|&byte| byte == 0));
    Map::with(map.at(10 * MIB), MIB, libc::PROT_NONE, flags | libc::MAP_NORESERVE);
    Map::with(map.at(10 * MIB), MIB / 2, libc::PROT_READ | libc::PROT_WRITE, flags);
    let file = std::env::current_exe().and_then(std::fs::File::open).expect("this program");
    // SAFETY: over our own memory.
    let over = unsafe {
        libc::mmap(
            map.at(20 * MIB),
            16 * PAGE,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_FIXED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_eq!(over, map.at(20 * MIB));
    assert_eq!(map.bytes(20 * MIB..20 * MIB + 4), b"\x7fELF");
    // A request that fails changes nothing.
    // SAFETY: over our own memory.
    let failed = unsafe {
        libc::mmap(map.at(30 * MIB), MIB, libc::PROT_READ, libc::MAP_PRIVATE | flags, 9999, 0)
    };
    assert_eq!(failed, libc::MAP_FAILED);
    println!("{}", sum(map.bytes(0..10 * MIB)));
    println!("{}", sum(map.bytes(10 * MIB..10 * MIB + MIB / 2)));
    println!("{}", sum(map.bytes(11 * MIB..20 * MIB)));
    println!("{}", sum(map.bytes(20 * MIB + 16 * PAGE..LARGE)));
    map.unmap(0..LARGE);
    println!("{}", Map::new(LARGE).fill(8).sum());
}

fn heap() {
    let mut grown: Vec<u64> = Vec::new();
    let mut lists: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for at in 0..3_000_000_u64 {
        grown.push(at.wrapping_mul(0x9E37_79B9));
        if at % 100_000 == 0 {
            let mut list = vec![0; 1_500_000];
            fill(&mut list[..400_000], at);
            lists.insert(at, list);
        }
    }
    println!("{}", grown.iter().fold(0, |sum: u64, word| sum.rotate_left(1) ^ word));
    for list in lists.values_mut() {
        list.truncate(700_000);
        list.shrink_to_fit();
    }
    println!("{}", lists.values().fold(0, |all: u64, list| all.wrapping_add(sum(list))));
    for align in [16, 4096, 1 << 16, 1 << 22] {
        let mut block = ptr::null_mut();
        // SAFETY: the result is freed below.
        assert_eq!(unsafe { libc::posix_memalign(&raw mut block, align, 2 * MIB) }, 0);
        assert!(block.addr().is_multiple_of(align));
        // SAFETY: a block of that length.
        unsafe { block.cast::<u8>().write_bytes(7, 2 * MIB) };
        // SAFETY: written above.
        let bytes = unsafe { std::slice::from_raw_parts(block.cast::<u8>(), 2 * MIB) };
        println!("{}", sum(bytes));
        // SAFETY: allocated above.
        unsafe { libc::free(block) };
    }
    // SAFETY: freed by the second call.
    let block = unsafe { libc::malloc(4 * MIB) };
    // SAFETY: as above.
    assert!(unsafe { libc::malloc_usable_size(block) } >= 4 * MIB);
    // SAFETY: as above.
    let block = unsafe { libc::realloc(block, 100) };
    // SAFETY: as above.
    unsafe { libc::free(block) };
}

/// Forks; the child runs `child` and exits. Returns its wait status.
fn fork(child: impl FnOnce()) -> c_int {
    std::io::stdout().flush().expect("a standard output");
    // SAFETY: the child runs what it is given, and exits without cleaning up.
    let process = unsafe { libc::fork() };
    if process == 0 {
        child();
        std::io::stdout().flush().expect("a standard output");
        // SAFETY: ends the child.
        unsafe { libc::_exit(3) };
    }
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
    status
}

fn forks() {
    let map = Map::new(LARGE).fill(9);
    let list = map.bytes(0..LARGE).to_vec();
    let status = fork(|| {
        println!("child {} {}", map.sum(), sum(&list));
        // What the child writes is its own, and it has a limit as well.
        fill(map.bytes(0..LARGE / 2), 10);
        println!("child {}", map.sum());
        let other = Map::new(LARGE).fill(11);
        let status = fork(|| println!("grandchild {} {}", map.sum(), other.sum()));
        println!("grandchild ended with {status}, child {} {}", map.sum(), other.sum());
        other.unmap(0..LARGE);
    });
    println!("child ended with {status}, {} {}", map.sum(), sum(&list));
    // What the parent writes after the fork is not the child's.
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let mut child = Some(reader);
    std::io::stdout().flush().expect("a standard output");
    // SAFETY: as in `fork`.
    let process = unsafe { libc::fork() };
    if process == 0 {
        drop(writer);
        let mut word = Vec::new();
        child.take().expect("a pipe").read_to_end(&mut word).expect("a parent");
        println!("after the parent's change, the child has {}", map.sum());
        std::io::stdout().flush().expect("a standard output");
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    fill(map.bytes(0..LARGE), 12);
    map.put_away();
    writer.write_all(b"done").expect("a child");
    drop(writer);
    // SAFETY: our own child.
    unsafe { libc::waitpid(process, ptr::null_mut(), 0) };
    println!("parent {}", map.sum());
}

fn forks_with_threads() {
    let map = Map::new(LARGE).fill(13);
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for at in 0..3 {
            let stop = &stop;
            scope.spawn(move || {
                let own = Map::new(8 * MIB);
                let mut round = at;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    round += 3;
                    fill(own.bytes(0..own.len), round);
                    let first = own.sum();
                    own.put_away();
                    assert_eq!(own.sum(), first);
                    let list = vec![round as u8; 2 * MIB];
                    assert!(list.iter().all(|&byte| byte == round as u8));
                    eprint!("");
                }
                own.unmap(0..own.len);
            });
        }
        for round in 0..5 {
            let status = fork(|| println!("child {round}: {}", map.sum()));
            println!("child {round} ended with {status}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    println!("{}", map.sum());
}

fn starts_programs() {
    let map = Map::new(LARGE).fill(14);
    let this = std::env::current_exe().expect("this program");
    // By `posix_spawn`, and by `fork` because of the folder.
    let output = Command::new(&this).arg("maps").output().expect("a child");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let output = Command::new(&this).arg("remaps").current_dir("/").output().expect("a child");
    println!("{} {}", output.status, String::from_utf8_lossy(&output.stdout));
    // SAFETY: a command with its end.
    let status = unsafe { libc::system(c"exit 7".as_ptr()) };
    println!("{status} {}", map.sum());
    let status = fork(|| {
        use std::os::unix::process::CommandExt;
        let error = Command::new(&this).arg("heap").exec();
        println!("{error}");
    });
    println!("{status} {}", map.sum());
}

fn threads() {
    let shared = Map::new(LARGE);
    let piece = LARGE / 6;
    thread::scope(|scope| {
        for at in 0..6 {
            scope.spawn(move || {
                let bytes = shared.bytes(at * piece..(at + 1) * piece);
                for round in 0..3 {
                    fill(bytes, (at + round) as u64);
                    let own = Map::new(2 * MIB).fill(round as u64);
                    let list = vec![at as u8; 3 * MIB / 2];
                    own.put_away();
                    assert_eq!(own.sum(), Map::new(2 * MIB).fill(round as u64).sum());
                    assert!(list.iter().all(|&byte| byte == at as u8));
                    own.unmap(0..own.len);
                }
            });
        }
    });
    println!("{}", shared.sum());
}

/// System calls, and a program that closes what it does not know.
fn descriptors() {
    let map = Map::new(LARGE);
    let zeros = map.bytes(0..LARGE);
    let mut file = std::env::current_exe().and_then(std::fs::File::open).expect("this program");
    // Reads into memory that was never touched, and into memory that was put away.
    let len = file.read(&mut zeros[..4 * MIB]).expect("bytes");
    map.put_away();
    println!("{}", sum(&zeros[..len.min(MIB)]));
    fill(zeros, 15);
    map.put_away();
    drop(file);
    // This program owns no descriptors but the standard ones.
    (3..1024).for_each(|number| {
        // SAFETY: nothing here uses it.
        unsafe { libc::close(number) };
    });
    println!("{}", map.sum());
    map.put_away();
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let reads = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).expect("bytes");
        sum(&all)
    });
    writer.write_all(map.bytes(0..LARGE)).expect("a reader");
    drop(writer);
    println!("{}", reads.join().expect("a sum"));
}

/// Threads whose stacks are mappings of the program's.
fn stacks() {
    extern "C" fn work(at: *mut libc::c_void) -> *mut libc::c_void {
        let mut buffer = [0_u8; 64 << 10];
        fill(&mut buffer, at.addr() as u64);
        let all = Map::new(LARGE).fill(at.addr() as u64);
        let status = fork(|| println!("child of a thread: {} {}", sum(&buffer), all.sum()));
        println!("{} {} {status}", sum(&buffer), all.sum());
        all.unmap(0..LARGE);
        ptr::null_mut()
    }
    for at in 1..4 {
        let stack = Map::new(2 * MIB);
        let mut attributes = std::mem::MaybeUninit::uninit();
        let mut thread = 0;
        let attributes: *mut libc::pthread_attr_t = attributes.as_mut_ptr();
        // SAFETY: fills them.
        unsafe { libc::pthread_attr_init(attributes) };
        // SAFETY: the stack lives until the thread was joined.
        assert_eq!(unsafe { pthread_attr_setstack(attributes, stack.at(0), stack.len) }, 0);
        let argument = ptr::without_provenance_mut(at);
        // SAFETY: the attributes were filled; the function takes any argument.
        unsafe { libc::pthread_create(&raw mut thread, attributes, work, argument) };
        // SAFETY: the thread was created.
        unsafe { libc::pthread_join(thread, ptr::null_mut()) };
        stack.unmap(0..stack.len);
    }
}

unsafe extern "C" {
    fn pthread_attr_setstack(
        attributes: *mut libc::pthread_attr_t,
        stack: *mut libc::c_void,
        len: usize,
    ) -> c_int;
}

/// Accesses memory that was unmapped, which must raise a signal.
fn unmapped() {
    let map = Map::new(LARGE).fill(16);
    map.unmap(0..LARGE / 2);
    println!("{}", sum(map.bytes(LARGE / 2..LARGE)));
    let status = fork(|| println!("{}", map.bytes(MIB..MIB + 1)[0]));
    println!("{status}");
    println!("{}", std::hint::black_box(map.bytes(MIB..MIB + 1)[0]));
}

fn main() {
    let scenario = std::env::args().nth(1).unwrap_or_default();
    match scenario.as_str() {
        "maps" => maps(),
        "remaps" => remaps(),
        "advice" => advice(),
        "protection" => protection(),
        "fixed" => fixed(),
        "heap" => heap(),
        "forks" => forks(),
        "forks_with_threads" => forks_with_threads(),
        "starts_programs" => starts_programs(),
        "threads" => threads(),
        "descriptors" => descriptors(),
        "stacks" => stacks(),
        "unmapped" => unmapped(),
        "exit_code" => std::process::exit(42),
        _ => panic!("no such scenario: {scenario}"),
    }
}
