//! Defines how the tests see processes: through /proc.

use std::fs;
use std::process::Command;

/// A process, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) threads: usize,
}

impl Process {
    /// All processes that run; those that only wait to be reaped are left out.
    pub(crate) fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").expect("/proc can be read");
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter_map(|name| Self::find(name.parse().ok()?))
            .collect()
    }

    /// The process with this number.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
        if ["Z", "X"].contains(fields.first()?) {
            return None;
        }
        let threads = usize::try_from(number(17)?).ok()?;
        Some(Self {
            pid,
            parent: number(1)?,
            group: number(2)?,
            threads,
        })
    }

    /// The most memory that it had at once, in bytes.
    pub(crate) fn peak_memory(pid: i32) -> u64 {
        Self::status(pid, "VmHWM:") * 1024
    }

    /// How many times it has gone to sleep: with one thread, as many as it has woken up.
    pub(crate) fn voluntary_switches(pid: i32) -> u64 {
        Self::status(pid, "voluntary_ctxt_switches:")
    }

    /// The CPU time that it has used, in the clock ticks of proc_pid_stat(5).
    pub(crate) fn cpu_ticks(pid: i32) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
        // What follows the name, which may hold anything; user and system time are the 14th and 15th.
        let (_, rest) = stat.rsplit_once(')').expect("it has a name");
        let times = rest.split_whitespace().skip(11).take(2);
        times
            .map(|time| time.parse::<u64>().expect("it is a number"))
            .sum()
    }

    fn status(pid: i32, key: &str) -> u64 {
        let numbers = Self::numbers(pid, key);
        let first = numbers.first().copied();
        first.unwrap_or_else(|| panic!("no number is {key}"))
    }

    /// The numbers of a line of its status: see proc_pid_status(5).
    pub(crate) fn numbers(pid: i32, key: &str) -> Vec<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let line = line.unwrap_or_else(|| panic!("no {key} in {status}"));
        let words = line.split_whitespace();
        words.map_while(|word| word.parse().ok()).collect()
    }

    /// What ps(1) shows in the place of its command line; nothing if it is gone.
    pub(crate) fn title(pid: i32) -> String {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        text.trim_end_matches('\0').replace('\0', " ")
    }

    /// The processes that have this parent now.
    pub(crate) fn children(parent: i32) -> Vec<i32> {
        let all = Self::all().into_iter();
        let children = all.filter(|process| process.parent == parent);
        children.map(|process| process.pid).collect()
    }
}

/// A command that runs another one after `setup` in a shell: the way to limits and descriptors.
pub(crate) fn limited(setup: &str, program: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{setup}; exec \"$0\" \"$@\""), program]);
    command
}
