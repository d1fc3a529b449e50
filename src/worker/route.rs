//! Defines which app answers a request. Looking it up costs what the request's own host and path
//! cost, however many apps there are.

use std::collections::HashMap;
use std::rc::Rc;

use crate::config::{HostPattern, Route, normal_host};

/// The routes of all apps, by host and path.
pub(super) struct Routes<T> {
    any: Paths<T>,
    exact: HashMap<String, Paths<T>>,
    below: HashMap<String, Paths<T>>,
}

/// The apps of one host, by path.
struct Paths<T> {
    by_path: HashMap<String, Rc<T>>,
    /// Segments of the longest path: a request's path is not searched further than that.
    depth: usize,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self {
            by_path: HashMap::new(),
            depth: 0,
        }
    }
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self {
            any: Paths::default(),
            exact: HashMap::new(),
            below: HashMap::new(),
        }
    }
}

impl<T> Routes<T> {
    /// Lets `app` answer what `route` names.
    pub(super) fn insert(&mut self, route: &Route, app: Rc<T>) {
        let paths = match &route.host {
            HostPattern::Any => &mut self.any,
            HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
            HostPattern::Below(host) => self.below.entry(host.clone()).or_default(),
        };
        paths.depth = paths.depth.max(route.path.matches('/').count());
        paths.by_path.insert(route.path.clone(), app);
    }

    /// The app for a request. An exact host comes before a wildcard, the nearer wildcard before the
    /// farther, and a host before none; within a host the longest path wins.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&Rc<T>> {
        if self.exact.is_empty() && self.below.is_empty() {
            return self.any.find(path);
        }
        let host = normal_host(host);
        let named = host.as_deref().and_then(|host| self.named(host, path));
        named.or_else(|| self.any.find(path))
    }

    fn named(&self, host: &str, path: &str) -> Option<&Rc<T>> {
        let exact = self.exact.get(host).and_then(|paths| paths.find(path));
        exact.or_else(|| {
            let parents = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
            parents
                .filter_map(|parent| self.below.get(parent))
                .find_map(|paths| paths.find(path))
        })
    }
}

impl<T> Paths<T> {
    fn find(&self, path: &str) -> Option<&Rc<T>> {
        if self.by_path.is_empty() {
            return None;
        }
        // The path's own ends first, so that the longest prefix is found first.
        let ends: Vec<usize> = path
            .match_indices('/')
            .map(|(slash, _)| slash)
            .filter(|slash| *slash > 0)
            .chain([path.len()])
            .take(self.depth)
            .collect();
        let prefixes = ends.iter().rev().map(|end| &path[..*end]);
        prefixes
            .chain(["/"])
            .find_map(|prefix| self.by_path.get(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(of: &[(&str, &str, &'static str)]) -> Routes<&'static str> {
        let mut routes = Routes::default();
        for (host, path, app) in of {
            let host = match host.strip_prefix("*.") {
                _ if host.is_empty() => HostPattern::Any,
                Some(parent) => HostPattern::Below(parent.to_owned()),
                None => HostPattern::Exact((*host).to_owned()),
            };
            routes.insert(
                &Route {
                    host,
                    path: (*path).to_owned(),
                },
                Rc::new(*app),
            );
        }
        routes
    }

    #[test]
    fn the_most_particular_route_wins() {
        let routes = routes(&[
            ("", "/", "root"),
            ("", "/api", "api"),
            ("", "/api/v2/users", "users"),
            ("a.example", "/", "a"),
            ("a.example", "/api", "a-api"),
            ("*.example", "/", "wild"),
            ("*.b.example", "/only", "deep"),
        ]);
        for (host, path, expect) in [
            ("other", "/", "root"),
            ("other", "/apis", "root"),
            ("other", "/api", "api"),
            ("other", "/api/", "api"),
            ("other", "/api/v2", "api"),
            ("other", "/api/v2/users/7", "users"),
            ("other", "/api/v2/usersx", "api"),
            ("other", "*", "root"),
            ("a.example", "/x", "a"),
            ("A.Example", "/api/x", "a-api"),
            ("c.example", "/api", "wild"),
            ("x.b.example", "/only/this", "deep"),
            ("x.b.example", "/else", "wild"),
            ("example", "/", "root"),
            ("not a host", "/", "root"),
            ("", "/api", "api"),
        ] {
            assert_eq!(
                routes.find(host, path).map(|app| **app),
                Some(expect),
                "{host}{path}"
            );
        }
    }

    #[test]
    fn without_a_route_there_is_no_app() {
        let routes = routes(&[("a.example", "/api", "api")]);
        assert!(routes.find("a.example", "/").is_none());
        assert!(routes.find("b.example", "/api").is_none());
        assert!(routes.find("a.example", "/api/x").is_some());
    }
}
