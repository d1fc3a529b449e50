//! A program of its own that has rgunicorn inside: it serves WebAssembly apps as `rgunicorn serve` does, and
//! beside them a kind of worker of its own, plain Rust, that answers with what the others are doing. It
//! watches its children's lives and tells of them.

mod status;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use rgunicorn::arbiter::{Arbiter, Notice, Plan, Role, Who};
use rgunicorn::compose::{self, Open};
use rgunicorn::config::Config;
use rgunicorn::sys::socket::{BindTo, Listener};
use rgunicorn::sys::title;

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
    let again: Vec<OsString> = std::env::args_os().skip(1).collect();
    title::prepare()?;
    let page = Listener::bind(&BindTo::Tcp(([127, 0, 0, 1], 0).into()), config.backlog)?;
    let mut lines = vec![format!("status page on {}", page.local_address())];
    let plan = plan(&config, &Open::default(), page)?;
    let apps = plan.listeners().filter(|(key, _)| *key != STATUS);
    lines.extend(apps.map(|(_, listener)| format!("apps on {}", listener.local_address())));
    let arbiter = Arbiter::builder()
        .name("embed")
        .plan(plan)
        .plan_again(move |current| next(&again, current).map_err(|error| error.to_string()))
        .on_ready(move || say(&lines.join("\n")))
        .on_notice(|notice, who| say(&story(notice, who)))
        .build()?;
    Ok(arbiter.run().into())
}

/// The apps of the settings, and the status page.
fn plan(config: &Config, open: &Open, page: Listener) -> Result<Plan, Box<dyn Error>> {
    let role = Role::new(STATUS, status::main);
    Ok(compose::plan(config, open, None)?.role(role, 1, vec![(STATUS.to_owned(), page)]))
}

/// What a reload brings up, on the listeners that are open.
fn next(args: &[OsString], current: &Plan) -> Result<Plan, Box<dyn Error>> {
    let config = Config::from_args(args)?;
    let page = current.find_listener(STATUS).ok_or("the page is gone")?;
    plan(&config, &Open::of_plan(current)?, page.try_clone()?)
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
