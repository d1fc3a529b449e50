//! Defines what the kernel says of a process: its children, its title, how it used the CPU, and which connections it
//! holds.

use std::collections::HashSet;
use std::fs;
use std::ops::{Add, Sub};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Time that a process may take to stop after SIGSTOP.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// States of a connection in which its worker still has something to say, as /proc/net/tcp spells them:
/// established, and the same after the client has closed its side.
const BEING_SERVED: [&str; 2] = ["01", "08"];

/// How a process used the CPU.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// How often it gave up the CPU to wait for something.
    pub(crate) voluntary: u64,
    /// How often another process took it.
    pub(crate) involuntary: u64,
    pub(crate) cpu_ns: u64,
}

impl Usage {
    /// Of all threads of a process, since it began.
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let mut sum = Self::default();
        let folder = format!("/proc/{pid}/task");
        for thread in fs::read_dir(&folder).context(folder)? {
            let folder = thread?.path();
            let status = read(&folder.join("status"))?;
            let schedule = read(&folder.join("schedstat"))?;
            let number = |name: &str| -> Result<u64> {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                Ok(line.context("no context switches")?.trim().parse()?)
            };
            sum.voluntary += number("voluntary_ctxt_switches:")?;
            sum.involuntary += number("nonvoluntary_ctxt_switches:")?;
            let cpu = schedule.split(' ').next().context("no CPU time")?;
            sum.cpu_ns += cpu.parse::<u64>()?;
        }
        Ok(sum)
    }

    /// Of several processes together.
    pub(crate) fn of_all(pids: impl IntoIterator<Item = i32>) -> Result<Self> {
        let mut pids = pids.into_iter();
        pids.try_fold(Self::default(), |sum, pid| Ok(sum + Self::of(pid)?))
    }

    pub(crate) fn switches(self) -> u64 {
        self.voluntary + self.involuntary
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            voluntary: self.voluntary + other.voluntary,
            involuntary: self.involuntary + other.involuntary,
            cpu_ns: self.cpu_ns + other.cpu_ns,
        }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            voluntary: self.voluntary - before.voluntary,
            involuntary: self.involuntary - before.involuntary,
            cpu_ns: self.cpu_ns - before.cpu_ns,
        }
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// The proportional set size of a process, in KiB.
pub(crate) fn memory(pid: i32) -> Result<u64> {
    let text = read(Path::new(&format!("/proc/{pid}/smaps_rollup")))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no proportional set size")?.parse()?)
}

/// Lets this process have as many files open as it ever may.
pub(crate) fn open_more_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot open more files")
}

pub(crate) fn children(pid: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path).context(path)?;
    text.split_whitespace()
        .map(|pid| Ok(pid.parse()?))
        .collect()
}

/// The workers of an arbiter that say in their title that they are ready. This costs the server nothing,
/// where asking the arbiter would wake it.
pub(crate) fn ready_workers(arbiter: i32) -> Result<Vec<i32>> {
    let mut ready = children(arbiter)?;
    ready.retain(|pid| {
        // A child that has just ended has no title.
        let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let title = title.trim_end_matches(['\0', ' ']);
        title.contains("worker") && title.ends_with(" ready")
    });
    Ok(ready)
}

pub(crate) fn signal(pid: i32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal} to {pid}"))
}

/// Stops a process, and answers when it stands still.
pub(crate) fn stop(pid: i32) -> Result<()> {
    signal(pid, Signal::SIGSTOP)?;
    let path = format!("/proc/{pid}/stat");
    let start = Instant::now();
    while start.elapsed() < STOP_WITHIN {
        let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        if state.is_some_and(|rest| rest.starts_with('T')) {
            return Ok(());
        }
    }
    bail!("process {pid} does not stop")
}

/// How many connections to `port` the process has accepted and not finished with.
pub(crate) fn connections(pid: i32, port: u16) -> Result<u64> {
    let table = fs::read_to_string("/proc/self/net/tcp").context("/proc/self/net/tcp")?;
    let wanted = inodes(&table, port);
    let folder = format!("/proc/{pid}/fd");
    let mut count = 0;
    for entry in fs::read_dir(&folder).context(folder)? {
        // A descriptor may be closed between the two looks at it.
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        let socket = target
            .to_str()
            .and_then(|name| name.strip_prefix("socket:["));
        let inode = socket.and_then(|name| name.strip_suffix(']'));
        count += u64::from(inode.is_some_and(|inode| wanted.contains(inode)));
    }
    Ok(count)
}

/// Numbers of the sockets that serve a connection to `port`. One that nobody has accepted has none yet.
fn inodes(table: &str, port: u16) -> HashSet<&str> {
    let port = format!(":{port:04X}");
    let rows = table.lines().skip(1);
    let fields = rows.map(|row| row.split_whitespace().collect::<Vec<_>>());
    let served = fields.filter_map(|row| match row[..] {
        [_, local, _, state, _, _, _, _, _, inode, ..] => {
            let ours = local.ends_with(&port) && BEING_SERVED.contains(&state);
            (ours && inode != "0").then_some(inode)
        }
        _ => None,
    });
    served.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_kernel_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 0100007F:1F90 0200007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0 20 4 30 10 -1
   2: 0200007F:A000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 20 4 30 10 -1
   3: 0100007F:1F90 0300007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
   4: 0100007F:1F91 0300007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 14 1 0 20 4 30 10 -1
   5: 0100007F:1F90 0400007F:A000 05 00000000:00000000 00:00000000 00000000     0        0 15 1 0 20 4 30 10 -1
";
        assert_eq!(inodes(table, 8080), HashSet::from(["12"]));
    }

    #[test]
    fn this_process_has_waited_and_has_no_connection() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(Usage::of(pid).unwrap().switches() > 0);
        assert_eq!(connections(pid, 9).unwrap(), 0);
        assert!(ready_workers(pid).unwrap().is_empty());
    }
}
