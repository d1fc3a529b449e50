//! Defines how a configuration is shown: as a settings file, with the place of every value.
//!
//! Invariant: the text is a settings file that gives the same configuration again.

use super::error::Origin;
use super::kind::toml_string;
use super::resolved::{App, Config, Origins};
use super::setting::Scope;
use super::table::SETTINGS;

/// Column at which comments start, if the value leaves room.
const COMMENT_COLUMN: usize = 44;

impl Config {
    /// Writes every setting as TOML, each with a comment that says where it was written. The values
    /// of the apps' environment variables are part of it.
    #[must_use]
    pub fn print(&self) -> String {
        let mut config = self.clone();
        let mut text = String::new();
        for setting in SETTINGS {
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

fn print_app(app: &App) -> String {
    let mut copy = app.clone();
    let mut text = format!("\n[apps.{}]\n", toml_string(&app.name));
    for setting in SETTINGS {
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
