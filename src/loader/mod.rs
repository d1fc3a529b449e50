//! Defines the loader: a short-lived process that reads the components, compiles them within limits,
//! hands the artefacts to the arbiter and exits.
//!
//! Invariant: what it hands over is sealed, or lies in a folder that only our user can write.

mod cache;
mod compile;
mod progress;

pub use compile::{Error, read_component};

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use crate::arbiter::exit::ExitCode;
use crate::arbiter::role::Child;
use crate::config::Config;
use crate::protocol::message::FromChild;
use crate::sys::process;

/// Loads all apps and hands them over. Answers with the exit code of the process.
pub fn main(child: Child, config: &Config) -> i32 {
    let send = |message: FromChild, file: Option<&OwnedFd>| {
        let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
        child.channel.send_blocking(&message.encode(), &files)
    };
    let result = load_all(config, |app, file| {
        send(FromChild::Artefact { app }, Some(file)).map_err(Error::Arbiter)
    });
    let sent = match &result {
        Ok(()) => send(FromChild::Loaded, None),
        Err(error) => send(
            FromChild::Failed {
                code: ExitCode::AppLoad.number(),
                reason: error.to_string(),
            },
            None,
        ),
    };
    match (result, sent) {
        (Ok(()), Ok(())) => i32::from(ExitCode::Ok.number()),
        (Err(_), _) => i32::from(ExitCode::AppLoad.number()),
        (Ok(()), Err(_)) => i32::from(ExitCode::Failure.number()),
    }
}

fn load_all(
    config: &Config,
    mut hand_over: impl FnMut(u32, &OwnedFd) -> Result<(), Error>,
) -> Result<(), Error> {
    limit(config)?;
    let loader = compile::Loader::new(config.cache_dir.as_deref())?;
    let mut done: HashMap<PathBuf, Rc<OwnedFd>> = HashMap::new();
    for (number, app) in (0..).zip(&config.apps) {
        let artefact = match done.get(&app.component) {
            Some(artefact) => Rc::clone(artefact),
            None => Rc::new(loader.load(&app.name, &app.component)?),
        };
        hand_over(number, &artefact)?;
        done.insert(app.component.clone(), artefact);
    }
    Ok(())
}

/// A component can make the compiler use any amount of time and memory; the kernel ends it there.
fn limit(config: &Config) -> Result<(), Error> {
    let apps = config.apps.len() as u64;
    let seconds = config.compile_timeout.as_secs().max(1).saturating_mul(apps);
    process::limit_address_space(config.compile_memory)
        .and_then(|()| process::limit_cpu(seconds))
        .map_err(Error::Limits)
}
