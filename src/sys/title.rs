//! Defines the title of a process, which ps(1) shows in the place of its command line.
//!
//! Invariant: what is overwritten is the memory of the original arguments and environment, and the
//! environment has been moved away from there before.

use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::Mutex;

use nix::libc;

use super::process;

/// Where `arg_start`, `arg_end`, `env_start` and `env_end` are in proc_pid_stat(5), counted from
/// behind the name: fields 48 to 51, of which the third is the first here.
const BOUNDS: Range<usize> = 45..49;

/// Where titles are written. A forked child has a copy of it and of the memory that it means.
static AREA: Mutex<Option<Area>> = Mutex::new(None);

struct Area {
    start: usize,
    length: usize,
    /// Bytes at the start that may be other than zero.
    used: usize,
}

/// Makes room for titles in the memory of the arguments and the environment. Call it once, first
/// thing in the process that is the ancestor of the others.
///
/// `std::env::args` yields nonsense after the first [`set`]: collect the arguments before.
/// `std::env::vars` goes on as before. Fails, and titles are not set then, in a process with several
/// threads or if the kernel does not say where that memory is.
pub fn prepare() -> io::Result<()> {
    if process::thread_count()? != 1 {
        return Err(io::Error::other(
            "process titles have to be prepared before there are threads",
        ));
    }
    let Ok(mut area) = AREA.try_lock() else {
        return Err(io::ErrorKind::ResourceBusy.into());
    };
    if area.is_some() {
        return Ok(());
    }
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let found = bounds(&stat).ok_or(io::ErrorKind::Unsupported)?;
    // SAFETY: there is one thread, and these are the bounds of the memory of the environment.
    unsafe { move_environment(&found) };
    *area = Some(Area {
        start: found.start,
        length: found.len(),
        used: found.len(),
    });
    Ok(())
}

/// Sets the title of this process, cut to the room there is. Does nothing without [`prepare`].
///
/// The name of the process, which pkill(1) looks for, stays the program's.
pub fn set(title: &str) {
    let Ok(mut area) = AREA.try_lock() else {
        return;
    };
    let Some(area) = area.as_mut() else {
        return;
    };
    // The last byte stays zero.
    let title = &title[..title.floor_char_boundary(area.length - 1)];
    let start = ptr::with_exposed_provenance_mut::<u8>(area.start);
    // SAFETY: the area is the memory of the arguments and the environment, which is writable and
    // lasts as long as the process; nothing points into the environment any more, and what reads the
    // arguments finds a zero at the end. The lock keeps other writers out.
    unsafe {
        ptr::copy_nonoverlapping(title.as_ptr(), start, title.len());
        let rest = area.used.saturating_sub(title.len());
        ptr::write_bytes(start.add(title.len()), 0, rest);
        // Zeroes inside would end the title for the kernel.
        for at in 0..title.len() {
            if *start.add(at) == 0 {
                *start.add(at) = b' ';
            }
        }
    }
    area.used = title.len();
}

/// The memory of the arguments, and of the environment if it follows.
fn bounds(stat: &str) -> Option<Range<usize>> {
    // The name may hold anything, and is in parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let mut bounds = [0; 4];
    for (bound, field) in bounds.iter_mut().zip(fields.get(BOUNDS)?) {
        *bound = field.parse().ok()?;
    }
    let [arg_start, arg_end, env_start, env_end] = bounds;
    // Zero is for who may not know.
    let all = arg_start > 0 && arg_start < arg_end;
    let end = if env_start == arg_end && env_start <= env_end {
        env_end
    } else {
        arg_end
    };
    all.then_some(arg_start..end)
}

/// Copies the variables that lie in `area` to the heap, for as long as the process lasts.
///
/// # Safety
/// No other thread may use the environment.
unsafe fn move_environment(area: &Range<usize>) {
    // SAFETY: `environ` is null or an array of strings that ends with null (environ(7)), and nobody
    // else uses it now.
    unsafe {
        let mut entry = libc::environ;
        while !entry.is_null() && !(*entry).is_null() {
            if area.contains(&(*entry).addr()) {
                *entry = CStr::from_ptr(*entry).to_owned().into_raw();
            }
            entry = entry.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::sys::fork_lock;
    use crate::sys::process::{expect_exit, fork};

    /// The title as ps(1) reads it.
    fn shown() -> Vec<u8> {
        let mut bytes = fs::read("/proc/self/cmdline").unwrap();
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        bytes
    }

    #[test]
    fn titles_are_shown_whole_and_replace_each_other() {
        let _forking = fork_lock::forking();
        let child = fork(|| {
            let before = shown();
            set("nothing is prepared");
            assert_eq!(shown(), before);
            let variables: BTreeMap<_, _> = std::env::vars_os().collect();
            let name = fs::read("/proc/self/comm").unwrap();
            prepare().unwrap();
            assert_eq!(shown(), before);
            prepare().unwrap();
            for title in [
                "rgunicorn: arbiter, ready",
                "short",
                "",
                "rgunicorn: worker 0",
            ] {
                set(title);
                assert_eq!(shown(), title.as_bytes());
            }
            set("a\0b");
            assert_eq!(shown(), b"a b");
            assert_eq!(std::env::vars_os().collect::<BTreeMap<_, _>>(), variables);
            assert_eq!(fs::read("/proc/self/comm").unwrap(), name);
            // Reading the arguments yields nonsense, and no fault.
            assert!(std::env::args_os().count() > 0);
            // A child has the room too, and a title of its own.
            let child = fork(|| {
                set("the child");
                i32::from(shown() != b"the child")
            });
            expect_exit(child.unwrap(), 0);
            assert_eq!(shown(), b"a b");
            0
        });
        expect_exit(child.unwrap(), 0);
    }

    #[test]
    fn a_title_may_be_longer_than_the_arguments_and_is_cut_at_a_character() {
        let _forking = fork_lock::forking();
        let child = fork(|| {
            let arguments = fs::read("/proc/self/cmdline").unwrap().len();
            prepare().unwrap();
            let length = AREA.try_lock().unwrap().as_ref().unwrap().length;
            assert!(length > arguments);
            for extra in 0..3 {
                let title = "x".repeat(arguments - 1 + extra);
                set(&title);
                assert_eq!(shown(), title.as_bytes());
            }
            set(&"\u{e9}".repeat(length));
            let used = AREA.try_lock().unwrap().as_ref().unwrap().used;
            assert_eq!(used, (length - 1) / 2 * 2);
            // The kernel shows at most a page of it.
            let page = shown();
            assert!(
                page.iter()
                    .zip("\u{e9}".bytes().cycle())
                    .all(|(one, two)| *one == two)
            );
            set("end");
            assert_eq!(shown(), b"end");
            0
        });
        expect_exit(child.unwrap(), 0);
    }

    #[test]
    fn bounds_are_read_behind_any_name_and_must_make_sense() {
        let stat = |tail: &str| format!("7 (a) b (c) {} {tail}\n", ["0"; 45].join(" "));
        assert_eq!(bounds(&stat("100 150 150 300 0")), Some(100..300));
        assert_eq!(bounds(&stat("100 150 160 300 0")), Some(100..150));
        assert_eq!(bounds(&stat("100 150 150 140 0")), Some(100..150));
        assert_eq!(bounds(&stat("0 0 0 0 0")), None);
        assert_eq!(bounds(&stat("150 100 100 300 0")), None);
        assert_eq!(bounds(&stat("100 150")), None);
        assert_eq!(bounds(""), None);
    }
}
