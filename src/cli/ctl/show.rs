//! Defines how a report of the server is shown to an operator.
//!
//! Invariant: it shows what is there and asks for nothing more, so it shows reports of other versions
//! too.

use super::text::{NOTHING, Side, duration, indented, pairs, printable_lines, size, table};
use crate::protocol::report::{
    AcceptReport, AppReport, ArbiterReport, ExitReport, ListenerReport, Report, ServingReport,
    Stats, WorkerReport,
};

/// The report as text, which ends with a line break.
pub(super) fn show(report: &Report) -> String {
    let mut parts: Vec<(&str, String)> = Vec::new();
    if let Some(report) = &report.arbiter {
        parts.push(("arbiter", arbiter(report)));
    }
    if let Some(numbers) = &report.stats {
        parts.push(("stats", stats(numbers, report.arbiter.is_some())));
    }
    if let Some(reports) = &report.workers {
        parts.push(("workers", workers(reports)));
    }
    if let Some(reports) = &report.apps {
        parts.push(("apps", apps(reports)));
    }
    if let Some(reports) = &report.listeners {
        parts.push(("listeners", listeners(reports)));
    }
    if let Some(text) = &report.config {
        parts.push(("config", printable_lines(text)));
    }
    match &parts[..] {
        [] => "nothing\n".to_owned(),
        // It is what was asked for.
        [(_, part)] => part.clone(),
        parts => {
            let titled = parts.iter();
            let titled = titled.map(|(title, part)| format!("{title}\n{}", indented(part)));
            titled.collect::<Vec<_>>().join("\n")
        }
    }
}

fn named(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn arbiter(report: &ArbiterReport) -> String {
    let mut lines = vec![
        named("version", &report.version),
        named("pid", report.pid),
        named("phase", &report.phase),
        named("generation", report.generation),
        named("uptime", duration(report.uptime_ms)),
        named("workers wanted", report.workers_wanted),
    ];
    let others = [
        ("predecessor", report.predecessor_pid),
        ("successor", report.successor_pid),
    ];
    lines.extend(
        others
            .into_iter()
            .filter_map(|(name, pid)| Some(named(name, pid?))),
    );
    pairs(lines)
}

/// `with_arbiter` says that the arbiter's own lines, some of which would be the same, are above.
fn stats(stats: &Stats, with_arbiter: bool) -> String {
    let mut lines = Vec::new();
    if !with_arbiter {
        lines.push(named("uptime", duration(stats.uptime_ms)));
        lines.push(named("generation", stats.generation));
    }
    lines.extend([
        named("workers ready", stats.workers_ready),
        named("connections", stats.connections),
        named("in flight", stats.in_flight),
        named("requests", stats.requests),
        named("restarts", stats.restarts),
        named("reloads", stats.reloads),
        named("reloads failed", stats.reloads_failed),
        named("upgrades", stats.upgrades),
        named("accepted", stats.accepted),
    ]);
    lines.extend(
        ACCEPTING
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .zip(accepting(&stats.accepting)),
    );
    pairs(lines)
}

/// How connections were accepted: what the numbers are called, in lines and in a table.
const ACCEPTING: [(&str, &str); 6] = [
    ("wake-ups", "WAKE-UPS"),
    ("spurious", "SPURIOUS"),
    ("handed on", "HANDED ON"),
    ("pulled", "PULLED"),
    ("parked", "PARKED"),
    ("revocations", "REVOKED"),
];

fn accepting(report: &AcceptReport) -> [String; 6] {
    [
        report.wakeups.to_string(),
        report.spurious.to_string(),
        report.handed_on.to_string(),
        report.pulled.to_string(),
        duration(report.parked_ms),
        report.revocations.to_string(),
    ]
}

/// What they do, and below it how they accept.
fn workers(reports: &[WorkerReport]) -> String {
    let living: Vec<&WorkerReport> = reports.iter().filter(|it| it.pid.is_some()).collect();
    let doing = doing(reports);
    if living.is_empty() {
        return doing;
    }
    let heads = ["SLOT", "PID", "ACCEPTED"];
    let heads = heads.into_iter().chain(ACCEPTING.map(|(_, head)| head));
    let heads: Vec<(&str, Side)> = heads.map(|head| (head, Side::Right)).collect();
    let row = |report: &&WorkerReport| {
        let pid = report.pid.map_or(NOTHING.to_owned(), |pid| pid.to_string());
        let first = [report.slot.to_string(), pid, report.accepted.to_string()];
        first
            .into_iter()
            .chain(accepting(&report.accepting))
            .collect()
    };
    format!(
        "{doing}\n{}",
        table(&heads, living.iter().map(row).collect())
    )
}

/// The role, which comes first, is told only where there is more than one.
fn doing(reports: &[WorkerReport]) -> String {
    let heads = [
        ("ROLE", Side::Left),
        ("SLOT", Side::Right),
        ("PID", Side::Right),
        ("GEN", Side::Right),
        ("STATE", Side::Left),
        ("AGE", Side::Right),
        ("REQUESTS", Side::Right),
        ("CONNS", Side::Right),
        ("IN FLIGHT", Side::Right),
        ("MEMORY", Side::Right),
        ("SERVING", Side::Left),
        ("LAST EXIT", Side::Left),
    ];
    let mut roles = reports.iter().map(|report| &report.role);
    let role = roles.next();
    let shown = if roles.all(|other| Some(other) == role) {
        1..
    } else {
        0..
    };
    let row = |report| worker(report)[shown.clone()].to_vec();
    table(&heads[shown.clone()], reports.iter().map(row).collect())
}

fn worker(report: &WorkerReport) -> [String; 12] {
    // A slot that waits has no numbers.
    let number = |number: String| match report.pid {
        Some(_) => number,
        None => NOTHING.to_owned(),
    };
    let text = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    [
        report.role.clone(),
        report.slot.to_string(),
        text(report.pid.map(|pid| pid.to_string())),
        report.generation.to_string(),
        report.state.clone(),
        number(duration(report.age_ms)),
        number(report.requests.to_string()),
        number(report.connections.to_string()),
        number(report.in_flight.to_string()),
        text(report.memory_bytes.map(size)),
        text(report.serving.as_ref().map(serving)),
        text(report.last_exit.as_ref().map(last_exit)),
    ]
}

fn serving(report: &ServingReport) -> String {
    let ServingReport {
        app,
        request,
        age_ms,
    } = report;
    format!("{app} {request} for {}", duration(*age_ms))
}

fn last_exit(report: &ExitReport) -> String {
    let ExitReport {
        pid,
        reason,
        ago_ms,
    } = report;
    format!("{} ago, pid {pid}: {reason}", duration(*ago_ms))
}

fn apps(reports: &[AppReport]) -> String {
    if reports.is_empty() {
        return "none\n".to_owned();
    }
    let apps = reports.iter().map(|report| {
        let mut lines = vec![
            named("component", &report.component),
            named("routes", report.routes.join(", ")),
        ];
        lines.extend(report.limits.iter().map(|(name, value)| named(name, value)));
        // The name alone is a table of one cell, which is made printable.
        let name = pairs(vec![named("app", &report.name)]);
        name + &indented(&pairs(lines))
    });
    apps.collect::<Vec<_>>().join("\n")
}

fn listeners(reports: &[ListenerReport]) -> String {
    let heads = [
        ("ADDRESS", Side::Left),
        ("BIND", Side::Left),
        ("WAITING", Side::Right),
        ("OF", Side::Right),
        ("OVERFLOWS", Side::Right),
    ];
    let number = |number: Option<u32>| number.map_or(NOTHING.to_owned(), |it| it.to_string());
    let row = |report: &ListenerReport| {
        let numbers = [report.queue, report.queue_max, report.overflows];
        let texts = [report.address.clone(), report.key.clone()];
        texts.into_iter().chain(numbers.map(number)).collect()
    };
    table(&heads, reports.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn arbiter_report() -> ArbiterReport {
        ArbiterReport {
            version: "0.1.0".to_owned(),
            pid: 4700,
            phase: "running".to_owned(),
            generation: 2,
            uptime_ms: 192_000,
            workers_wanted: 2,
            predecessor_pid: None,
            successor_pid: Some(4800),
        }
    }

    fn worker_reports() -> Vec<WorkerReport> {
        let last_exit = ExitReport {
            pid: 4701,
            reason: "died: signal 9".to_owned(),
            ago_ms: 61_000,
        };
        let waiting = WorkerReport::waiting("worker", 10, 2, Some(last_exit));
        let serving = ServingReport {
            app: "blog".to_owned(),
            request: "GET /a".to_owned(),
            age_ms: 120,
        };
        let ready = WorkerReport {
            pid: Some(4711),
            slot: 0,
            state: "ready".to_owned(),
            age_ms: 190_000,
            requests: 12_345,
            accepted: 99,
            connections: 3,
            in_flight: 1,
            serving: Some(serving),
            memory_bytes: Some(9_542_042),
            heartbeat_ms: Some(29_000),
            last_exit: None,
            accepting: AcceptReport {
                wakeups: 70,
                handed_on: 80,
                pulled: 29,
                parked_ms: 1500,
                ..AcceptReport::default()
            },
            ..waiting.clone()
        };
        vec![ready, waiting]
    }

    #[test]
    fn workers_are_a_table() {
        let check = |reports: Vec<WorkerReport>, expect| {
            let workers = Some(reports);
            let report = Report {
                workers,
                ..Report::default()
            };
            assert_eq!(show(&report), expect);
        };
        let mut reports = worker_reports();
        let expect = "\
SLOT   PID  GEN  STATE      AGE  REQUESTS  CONNS  IN FLIGHT   MEMORY  SERVING                LAST EXIT
   0  4711    2  ready    3m10s     12345      3          1  9.1 MiB  blog GET /a for 120ms  -
  10     -    2  waiting      -         -      -          -        -  -                      1m01s ago, pid 4701: died: signal 9

SLOT   PID  ACCEPTED  WAKE-UPS  SPURIOUS  HANDED ON  PULLED  PARKED  REVOKED
   0  4711        99        70         0         80      29      1s        0
";
        check(reports.clone(), expect);
        check(Vec::new(), "none\n");
        let ready = &mut reports[0];
        ready.role = "timer".to_owned();
        ready.serving = None;
        let expect = "\
ROLE    SLOT   PID  GEN  STATE      AGE  REQUESTS  CONNS  IN FLIGHT   MEMORY  SERVING  LAST EXIT
timer      0  4711    2  ready    3m10s     12345      3          1  9.1 MiB  -        -
worker    10     -    2  waiting      -         -      -          -        -  -        1m01s ago, pid 4701: died: signal 9

SLOT   PID  ACCEPTED  WAKE-UPS  SPURIOUS  HANDED ON  PULLED  PARKED  REVOKED
   0  4711        99        70         0         80      29      1s        0
";
        check(reports, expect);
    }

    /// Numbers and texts at their limits, and texts that would break the table.
    #[test]
    fn a_worker_that_lies_breaks_no_table() {
        let mut reports = worker_reports();
        let liar = &mut reports[0];
        liar.pid = Some(u32::MAX);
        liar.generation = u32::MAX;
        liar.state = String::new();
        liar.age_ms = u64::MAX;
        liar.requests = u64::MAX;
        liar.memory_bytes = Some(u64::MAX);
        liar.serving = Some(ServingReport {
            app: "\x1b[31m".to_owned(),
            request: "GET /\r\nroot 0".to_owned(),
            age_ms: 0,
        });
        let text = doing(&reports);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!text.contains(['\x1b', '\r']), "{text}");
        assert!(text.contains(" 213503982334d14h "), "{text}");
        assert!(text.contains(" 16.0 EiB "), "{text}");
        assert!(
            text.contains("\\u{1b}[31m GET /\\r\\nroot 0 for 0ms"),
            "{text}"
        );
        let columns = |line: &str| line.split("  ").filter(|cell| !cell.is_empty()).count();
        assert!(text.lines().all(|line| columns(line) == 11), "{text}");
    }

    #[test]
    fn several_parts_have_titles() {
        let listener = ListenerReport {
            address: "http://127.0.0.1:43121/".to_owned(),
            key: "127.0.0.1:0".to_owned(),
            queue: Some(3),
            queue_max: Some(2048),
            overflows: None,
        };
        let stats = Stats {
            requests: 12_345,
            ..Stats::default()
        };
        let report = Report {
            arbiter: Some(arbiter_report()),
            stats: Some(stats),
            workers: Some(Vec::new()),
            listeners: Some(vec![listener]),
            ..Report::default()
        };
        let expect = "\
arbiter
  version         0.1.0
  pid             4700
  phase           running
  generation      2
  uptime          3m12s
  workers wanted  2
  successor       4800

stats
  workers ready   0
  connections     0
  in flight       0
  requests        12345
  restarts        0
  reloads         0
  reloads failed  0
  upgrades        0
  accepted        0
  wake-ups        0
  spurious        0
  handed on       0
  pulled          0
  parked          0ms
  revocations     0

workers
  none

listeners
  ADDRESS                  BIND         WAITING    OF  OVERFLOWS
  http://127.0.0.1:43121/  127.0.0.1:0        3  2048          -
";
        assert_eq!(show(&report), expect);
    }

    #[test]
    fn apps_are_told_one_below_the_other() {
        let app = AppReport {
            name: "blog".to_owned(),
            component: "/srv/blog.wasm".to_owned(),
            routes: vec!["/a".to_owned(), "b.example/".to_owned()],
            limits: BTreeMap::from([("timeout".to_owned(), "30s".to_owned())]),
        };
        let bare = AppReport {
            name: "a\nb".to_owned(),
            routes: Vec::new(),
            limits: BTreeMap::new(),
            ..app.clone()
        };
        let report = Report {
            apps: Some(vec![app, bare]),
            config: Some("workers = 2  # from: \x07\r\n\n[apps.\"blog\"]\n".to_owned()),
            ..Report::default()
        };
        let expect = "\
apps
  app  blog
    component  /srv/blog.wasm
    routes     /a, b.example/
    timeout    30s

  app  a\\nb
    component  /srv/blog.wasm
    routes     -

config
  workers = 2  # from: \\u{7}

  [apps.\"blog\"]
";
        assert_eq!(show(&report), expect);
    }

    #[test]
    fn one_part_stands_alone() {
        let only = |report| show(&report);
        let stats = Some(Stats::default());
        let text = only(Report {
            stats,
            ..Report::default()
        });
        assert!(
            text.starts_with("uptime          0ms\ngeneration      0\n"),
            "{text}"
        );
        let config = Some("workers = 2\n\n[apps.\"x\"]\n".to_owned());
        let text = only(Report {
            config,
            ..Report::default()
        });
        assert_eq!(text, "workers = 2\n\n[apps.\"x\"]\n");
        let apps = Some(Vec::new());
        let text = only(Report {
            apps,
            ..Report::default()
        });
        assert_eq!(text, "none\n");
        assert_eq!(only(Report::default()), "nothing\n");
    }
}
