//! Defines how a configuration is shown: as a settings file, with the place of every value.
//!
//! Invariant: the text is a settings file that gives the same configuration again.

use std::path::PathBuf;

use super::error::Origin;
use super::kind::toml_string;
use super::resolved::{App, Config, Origins};
use super::setting::{Group, Scope};
use super::table::settings;

/// Column at which comments start, if the value leaves room.
const COMMENT_COLUMN: usize = 44;

impl Config {
    /// Writes every setting as TOML, each with a comment that says where it was written. The values
    /// of the apps' environment variables are part of it.
    #[must_use]
    pub fn print(&self) -> String {
        let mut config = self.clone();
        let mut text = String::new();
        for setting in settings() {
            if let Scope::Server(kind) = &setting.scope {
                let value = kind.show(&mut config);
                text.push_str(&line(setting.key, &value, &self.origins));
            }
        }
        for app in &self.apps {
            text.push_str(&print_app(app));
        }
        text
    }
}

/// What an operator is told of an app: where it comes from, what it answers, and what a request may
/// use. Its rights are not part of it, since its environment may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppDescription {
    /// The app's name.
    pub name: String,
    /// The component's file, absolute.
    pub component: PathBuf,
    /// The routes as they are written in a settings file.
    pub routes: Vec<String>,
    /// The limits by their keys, as they are written in a settings file but without quotes; 0
    /// stands for no limit where the setting says so.
    pub limits: Vec<(&'static str, String)>,
}

impl App {
    /// Describes the app by the settings table, in its order.
    #[must_use]
    pub fn describe(&self) -> AppDescription {
        let mut copy = self.clone();
        let mut limits = Vec::new();
        for setting in settings().filter(|setting| setting.group == Group::Limits) {
            if let Scope::Both(kind) | Scope::App(kind) = &setting.scope {
                // A limit is a number with or without a unit: its quotes enclose nothing escaped.
                let shown = kind.show(&mut copy);
                limits.push((setting.key, shown.trim_matches('"').to_owned()));
            }
        }
        AppDescription {
            name: self.name.clone(),
            component: self.component.clone(),
            routes: self.routes.iter().map(ToString::to_string).collect(),
            limits,
        }
    }
}

fn print_app(app: &App) -> String {
    let mut copy = app.clone();
    let mut text = format!("\n[apps.{}]\n", toml_string(&app.name));
    for setting in settings() {
        if let Scope::Both(kind) | Scope::App(kind) = &setting.scope {
            text.push_str(&line(setting.key, &kind.show(&mut copy), &app.origins));
        }
    }
    text
}

fn line(key: &str, value: &str, origins: &Origins) -> String {
    let assignment = format!("{key} = {value}");
    let source = source(origins.get(key).unwrap_or(&Origin::Default));
    format!("{assignment:COMMENT_COLUMN$} # from: {source}\n")
}

/// A place, for a reader of the whole configuration.
fn source(origin: &Origin) -> String {
    match origin {
        Origin::Default | Origin::CommandArgs | Origin::CommandLine => origin.to_string(),
        Origin::Environment(variable) => format!("environment {variable}"),
        Origin::File { .. } => format!("file {origin}"),
    }
}
