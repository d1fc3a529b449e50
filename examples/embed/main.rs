//! A program of its own that has rgunicorn inside: it serves WebAssembly apps as `rgunicorn serve` does, and
//! beside them a kind of worker of its own, plain Rust, that answers with what the others are doing. It
//! watches its children's lives and tells of them.

mod status;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use rgunicorn::arbiter::{Arbiter, Notice, Role, Who};
use rgunicorn::compose::{self, Open};
use rgunicorn::config::Config;
use rgunicorn::sys::socket::{BindTo, Listener};

/// The listener of the status page, among those of the plan.
const STATUS: &str = "status";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "embed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    // The settings are those of `rgunicorn serve`. Nothing of this may start a thread: the arbiter
    // forks, and refuses to be built in a process that has a second one.
    let config = Config::from_args(std::env::args_os().skip(1))?;
    let plan = compose::plan(&config, &Open::default(), None)?;
    let page = Listener::bind(&BindTo::Tcp(([127, 0, 0, 1], 0).into()), config.backlog)?;
    let mut lines = vec![format!("status page on {}", page.local_address())];
    let apps = plan.listeners();
    lines.extend(apps.map(|(_, listener)| format!("apps on {}", listener.local_address())));
    let plan = plan.role(
        Role::new(STATUS, status::main),
        1,
        vec![(STATUS.to_owned(), page)],
    );
    let arbiter = Arbiter::builder()
        .name("embed")
        .plan(plan)
        .on_ready(move || say(&lines.join("\n")))
        .on_notice(|notice, who| say(&story(notice, who)))
        .build()?;
    Ok(arbiter.run().into())
}

/// What an embedder may want to know of its children's lives.
fn story(notice: &Notice, who: Option<Who>) -> String {
    let who = who.map_or(String::new(), |who| who.to_string());
    match notice {
        Notice::Started(_) => format!("up: {who}"),
        Notice::Ready(..) => format!("ready: {who}"),
        Notice::Left(_, reason) | Notice::Died(_, reason) | Notice::Ended(_, reason) => {
            format!("gone: {who}: {reason}")
        }
        Notice::Generation(number) => format!("generation {number} serves"),
        other => format!("{other:?}"),
    }
}

fn say(line: &str) {
    // Nobody may be listening.
    let _ = writeln!(io::stdout(), "{line}");
}
