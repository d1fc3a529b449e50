//! Defines what the machine does meanwhile: the figures without which the others say nothing.

use std::fs;

use anyhow::{Context as _, Result, bail};

/// CPU time of the machine since it began, in ticks.
#[derive(Clone, Copy)]
pub(crate) struct Ticks {
    busy: u64,
    stolen: u64,
    all: u64,
}

impl Ticks {
    pub(crate) fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let line = stat
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("cpu "));
        let numbers = line
            .context("no CPU time in /proc/stat")?
            .split_whitespace();
        let numbers: Vec<u64> = numbers.map(str::parse).collect::<Result<_, _>>()?;
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is a part of user.
        let [user, nice, system, idle, iowait, irq, softirq, stolen, ..] = numbers[..] else {
            bail!("no steal in /proc/stat");
        };
        let busy = user + nice + system + irq + softirq;
        Ok(Self {
            busy,
            stolen,
            all: busy + idle + iowait + stolen,
        })
    }

    /// Percent of the machine that was used since `before`.
    pub(crate) fn busy_since(self, before: Self) -> f64 {
        percent(self.busy - before.busy, self.all - before.all)
    }
}

/// The state of the machine when a scenario begins.
pub(crate) struct Watch {
    load: String,
    ticks: Ticks,
    ours: u64,
}

impl Watch {
    pub(crate) fn start() -> Result<Self> {
        Ok(Self {
            load: load_average()?,
            ticks: Ticks::now()?,
            ours: our_ticks()?,
        })
    }

    /// What became of the machine since; to be asked when all servers have ended.
    pub(crate) fn tell(&self) -> Result<String> {
        let now = Ticks::now()?;
        let all = now.all - self.ticks.all;
        let busy = now.busy - self.ticks.busy;
        let others = busy.saturating_sub(our_ticks()? - self.ours);
        Ok(format!(
            "load average {} before, {} after; steal {:.1} %; other processes {:.1} % of the CPU time",
            self.load,
            load_average()?,
            percent(now.stolen - self.ticks.stolen, all),
            percent(others, all),
        ))
    }
}

pub(crate) fn kernel() -> Result<String> {
    let path = "/proc/sys/kernel/osrelease";
    Ok(fs::read_to_string(path).context(path)?.trim().to_owned())
}

pub(crate) fn cpus() -> Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let named = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name"));
    let name = named
        .map(|rest| rest.trim_start_matches(['\t', ' ', ':']))
        .next();
    let count = std::thread::available_parallelism()?;
    Ok(format!("{count} CPUs, {}", name.unwrap_or("of no name")))
}

fn load_average() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    let words: Vec<&str> = text.split(' ').take(3).collect();
    Ok(words.join(" "))
}

/// CPU time of this process and of all descendants that have ended.
fn our_ticks() -> Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    let (_, rest) = stat
        .rsplit_once(") ")
        .context("no name in /proc/self/stat")?;
    // utime, stime, cutime and cstime are the fields 14 to 17, and `rest` begins with the third.
    let fields = rest.split(' ').skip(11).take(4);
    fields.map(|field| Ok(field.parse::<u64>()?)).sum()
}

fn percent(part: u64, all: u64) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}
