//! Defines what the kernel tells of processes and sockets that the harness does not ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// State of a process, a letter as in proc_pid_stat(5), and its process group; `None` if there is no
/// such process.
fn state(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let group = fields.nth(1)?.parse().ok()?;
    Some((state, group))
}

/// Whether a process that was told to stop has done so; `None` if it has ended in the meantime.
pub(crate) fn is_stopped(pid: i32) -> Option<bool> {
    match state(pid)?.0 {
        'T' => Some(true),
        'Z' | 'X' => None,
        _ => Some(false),
    }
}

/// Whether a signal waits for a process to take notice of it.
pub(crate) fn is_signalled(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let pending = status
        .lines()
        .find_map(|line| line.strip_prefix("ShdPnd:"))
        .unwrap_or_else(|| panic!("no pending signals in {status}"));
    pending.trim().bytes().any(|digit| digit != b'0')
}

/// The processes of a group that nobody has reaped.
pub(crate) fn zombies(group: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc can be read");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| state(*pid) == Some(('Z', group)))
        .collect()
}

/// What a process has open, and how much of each kind; nothing if it has ended.
///
/// What it has from this process, which had it by accident from its own parent, does not count: it
/// need not outlive an upgrade.
pub(crate) fn descriptors(pid: i32) -> BTreeMap<String, usize> {
    const STANDARD_ERROR: i32 = 2;
    let own = links(std::process::id().cast_signed());
    let mut kinds = BTreeMap::new();
    for (number, target) in links(pid) {
        if number > STANDARD_ERROR && own.get(&number) == Some(&target) {
            continue;
        }
        // The number of a socket or a pipe says nothing, nor does that in a file's name.
        let kind = match target.rsplit_once('/') {
            Some((folder, _)) => folder,
            None => target.split_once(":[").map_or(&*target, |(kind, _)| kind),
        };
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}

/// The descriptors of a process, and what they lead to.
fn links(pid: i32) -> BTreeMap<i32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let link = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        Some((number, target.to_string_lossy().into_owned()))
    };
    let entries = entries.into_iter().flatten();
    entries.filter_map(|entry| link(entry.ok()?)).collect()
}

/// KiB of memory that is the process's own, not a file's: what allocations grow.
///
/// Pages that a child still shares since its fork are counted whole, so that the number does not
/// depend on how many children there are, as a proportional one would.
pub(crate) fn anonymous_kib(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process lives");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no anonymous memory in {text}"))
}

/// A connection, seen from the server's side of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    client_port: u16,
    is_established: bool,
    /// 0 as long as nobody has accepted it, and again when whoever did has closed it.
    inode: u64,
}

/// The connections of a server's port, from the table of proc_pid_net(5).
fn rows(server_port: u16) -> Vec<Row> {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc can be read");
    let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    let row = |line: &str| {
        // Most rows are closed connections of clients: they are not looked at any further.
        let mut fields = line.split_whitespace().skip(1);
        if port(fields.next()?)? != server_port {
            return None;
        }
        Some(Row {
            client_port: port(fields.next()?)?,
            is_established: fields.next()? == ESTABLISHED,
            inode: fields.nth(5)?.parse().ok()?,
        })
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// The ports of the clients whose connections these processes hold.
///
/// The kernel does not write its table in one piece, and a row may slip through while others come
/// and go: it is read several times.
pub(crate) fn client_ports(server_port: u16, pids: &[i32]) -> BTreeSet<u16> {
    const READINGS: usize = 3;
    let inode = |target: String| {
        let number = target.strip_prefix("socket:[")?.strip_suffix(']')?;
        number.parse::<u64>().ok()
    };
    let all = pids.iter().flat_map(|pid| links(*pid).into_values());
    let held: BTreeSet<u64> = all.filter_map(inode).collect();
    let seen = (0..READINGS).flat_map(|_| rows(server_port));
    seen.filter(|row| held.contains(&row.inode))
        .map(|row| row.client_port)
        .collect()
}

/// How many connections wait for somebody to accept them.
pub(crate) fn backlog(server_port: u16) -> usize {
    let waits = |row: &&Row| row.is_established && row.inode == 0;
    rows(server_port).iter().filter(waits).count()
}
