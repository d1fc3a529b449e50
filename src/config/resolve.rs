//! Defines how what was written becomes a [`Config`].
//!
//! Invariant: whatever is not valid is told, all of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Error, Origin, Problem};
use super::file::{APP_NAME_MAX, is_app_name_character};
use super::kind::{Fault, Kind, Machine};
use super::raw::{Entry, Raw, RawApp, Written};
use super::resolved::{App, Config};
use super::route::Route;
use super::setting::{Scope, Setting};
use super::table::settings;
use super::tls::CertReqs;

/// Name of an app whose file has no character that a name may have.
const UNNAMED: &str = "app";

/// Understands every value that was written. The configuration is valid only without errors.
pub(super) fn resolve(raw: &Raw, machine: &Machine) -> (Config, Vec<Error>) {
    let mut resolver = Resolver {
        machine,
        errors: Vec::new(),
    };
    let config = resolver.config(raw);
    (config, resolver.errors)
}

struct Resolver<'m> {
    machine: &'m Machine,
    errors: Vec<Error>,
}

impl Resolver<'_> {
    fn config(&mut self, raw: &Raw) -> Config {
        let mut config = Config::blank();
        config.file.clone_from(&raw.file);
        let mut template = App::blank();
        let defaults: Vec<Entry> = settings().filter_map(default).collect();
        let mut only: Option<(&Entry, PathBuf)> = None;
        for entry in defaults.iter().chain(&raw.entries) {
            match &entry.setting.scope {
                Scope::OnlyApp => only = self.only_app(entry).map(|path| (entry, path)).or(only),
                Scope::Server(kind) => {
                    self.server(kind, &mut config, entry);
                }
                Scope::Both(kind) | Scope::App(kind) => {
                    self.app_setting(kind, &mut template, entry)
                }
            }
        }
        config.apps = match (only, raw.apps.as_slice()) {
            (None, []) => {
                self.no_app(raw);
                Vec::new()
            }
            (None, apps) => apps.iter().map(|app| self.app(&template, app)).collect(),
            (Some((entry, component)), []) => vec![only_app(template, entry, component)],
            (Some((entry, _)), _) => {
                let text = entry
                    .values
                    .last()
                    .map_or("", |written| &written.text)
                    .to_owned();
                self.push(
                    entry,
                    vec![(entry.origin.clone(), Problem::AppBesideApps(text))],
                );
                Vec::new()
            }
        };
        self.routes_are_distinct(&config.apps);
        self.tls_is_whole(&config);
        self.bodies_fit(&config);
        config
    }

    fn server(&mut self, kind: &Kind<Config>, config: &mut Config, entry: &Entry) {
        match kind.store(config, entry, self.machine) {
            Ok(()) => {
                config
                    .origins
                    .insert(entry.setting.key, entry.origin.clone());
            }
            Err(faults) => self.push(entry, faults),
        }
    }

    fn app_setting(&mut self, kind: &Kind<App>, app: &mut App, entry: &Entry) {
        match kind.store(app, entry, self.machine) {
            Ok(()) => {
                app.origins.insert(entry.setting.key, entry.origin.clone());
            }
            Err(faults) => self.push(entry, faults),
        }
    }

    /// The component that an entry of `app` names.
    fn only_app(&mut self, entry: &Entry) -> Option<PathBuf> {
        let mut path = PathBuf::new();
        let kind = Kind::File {
            at: |path: &mut PathBuf| path,
        };
        let stored = kind.store(&mut path, entry, self.machine);
        stored
            .map_err(|faults| self.push(entry, faults))
            .ok()
            .map(|()| path)
    }

    fn app(&mut self, template: &App, raw: &RawApp) -> App {
        let mut app = App {
            name: raw.name.clone(),
            ..template.clone()
        };
        if !raw.has_component {
            let setting = format!("apps.{}", raw.name);
            self.errors.push(Error::new(
                raw.origin.clone(),
                setting,
                Problem::NoComponent,
            ));
        }
        for entry in &raw.entries {
            match &entry.setting.scope {
                Scope::Both(kind) | Scope::App(kind) => self.app_setting(kind, &mut app, entry),
                // The file's reader has refused these.
                Scope::OnlyApp | Scope::Server(_) => {}
            }
        }
        app
    }

    /// Two apps cannot have one route: the second is told.
    fn routes_are_distinct(&mut self, apps: &[App]) {
        let mut taken: HashMap<&Route, &App> = HashMap::new();
        for app in apps {
            for route in &app.routes {
                if let Some(other) = taken.insert(route, app) {
                    let origin = app.origins.get("routes").filter(|o| **o != Origin::Default);
                    let problem = Problem::RouteTaken {
                        route: route.to_string(),
                        other: other.name.clone(),
                    };
                    let origin = origin.or(app.origins.get("component")).cloned();
                    let setting = format!("apps.{}.routes", app.name);
                    self.errors.push(Error {
                        origin,
                        setting,
                        problem,
                    });
                }
            }
        }
    }

    fn tls_is_whole(&mut self, config: &Config) {
        let tls = &config.tls;
        let (certificates, keys) = (tls.certfile.len(), tls.keyfile.len());
        if keys != certificates && keys > 0 {
            self.wrong_server_setting(config, "keyfile", Problem::Unpaired { certificates, keys });
        }
        if tls.cert_reqs != CertReqs::None && tls.ca_certs.is_none() {
            self.wrong_server_setting(config, "cert-reqs", Problem::NoAuthorities);
        }
    }

    /// Long bodies leave room for others.
    fn bodies_fit(&mut self, config: &Config) {
        let longest = config
            .apps
            .iter()
            .max_by_key(|app| app.limits.buffered_body);
        let Some(app) = longest else { return };
        let buffered = app.limits.buffered_body;
        let least = buffered.saturating_mul(2);
        if config.body_memory < least {
            let app = app.name.clone();
            let problem = Problem::BodyMemory {
                app,
                buffered,
                least,
            };
            self.wrong_server_setting(config, "body-memory", problem);
        }
    }

    /// Tells what is wrong with a setting beside others.
    fn wrong_server_setting(&mut self, config: &Config, key: &str, problem: Problem) {
        let origin = config.origins.get(key);
        let origin = origin.filter(|origin| **origin != Origin::Default);
        self.errors.push(Error {
            origin: origin.cloned(),
            setting: key.to_owned(),
            problem,
        });
    }

    /// An app that was named, but wrongly, is not missing.
    fn no_app(&mut self, raw: &Raw) {
        let named = |entry: &Entry| matches!(entry.setting.scope, Scope::OnlyApp);
        if !raw.entries.iter().any(named) {
            self.errors.push(Error::general(Problem::NoApp));
        }
    }

    fn push(&mut self, entry: &Entry, faults: Vec<Fault>) {
        let error = |(origin, problem)| Error::new(origin, entry.spelling.clone(), problem);
        self.errors.extend(faults.into_iter().map(error));
    }
}

/// The only app: it answers everything, and is named after its file.
fn only_app(template: App, entry: &Entry, component: PathBuf) -> App {
    let mut app = App {
        name: name_of(&component),
        component,
        ..template
    };
    app.origins.insert("component", entry.origin.clone());
    app
}

/// A name for the app in this file.
fn name_of(component: &Path) -> String {
    let stem = component
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let allowed = |character| {
        if is_app_name_character(character) {
            character
        } else {
            '-'
        }
    };
    let name: String = stem.chars().map(allowed).take(APP_NAME_MAX).collect();
    if name.chars().all(|character| character == '-') {
        UNNAMED.into()
    } else {
        name
    }
}

/// The entry of a setting's default.
fn default(setting: &'static Setting) -> Option<Entry> {
    let written = Written {
        text: setting.default.to_owned(),
        origin: Origin::Default,
    };
    let values = match setting.default {
        "" if setting.form().is_list() => Vec::new(),
        "" => return None,
        _ => vec![written],
    };
    Some(Entry {
        setting,
        spelling: setting.key.to_owned(),
        values,
        origin: Origin::Default,
        base: Arc::from(Path::new("/")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_named_after_its_file() {
        let long = format!("/{}.wasm", "a".repeat(40));
        let cut = "a".repeat(32);
        for (file, expect) in [
            ("/srv/hello.wasm", "hello"),
            ("/srv/Hello World.v2.wasm", "hello-world-v2"),
            ("/srv/naïve.wasm", "na-ve"),
            ("/srv/über", "-ber"),
            ("/srv/日本.wasm", "app"),
            (&long, &cut),
        ] {
            assert_eq!(name_of(Path::new(file)), expect, "{file}");
        }
    }
}
