//! Finds the route of a method and a path.

use std::collections::BTreeMap;

use http::Method;

use super::respond::Failure;
use super::route::Route;
use crate::error::Error;

/// Every API path starts with it.
pub const BASE: &str = "/api/v1";

pub struct Router {
    routes: Vec<Route>,
    /// From a path to the routes of its methods, as places in `routes`.
    paths: matchit::Router<Vec<usize>>,
}

pub struct Found<'r> {
    pub route: &'r Route,
    pub parameters: Vec<String>,
    /// Its place among all routes.
    pub place: usize,
}

impl Router {
    /// # Panics
    /// When two declarations contradict each other; a build that does fails its first test.
    pub fn new(routes: Vec<Route>) -> Self {
        let mut by_path: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, route) in routes.iter().enumerate() {
            let places = by_path.entry(route.path).or_default();
            assert!(
                places.iter().all(|other| routes[*other].method != route.method),
                "{} {} is declared twice",
                route.method,
                route.path
            );
            places.push(place);
        }
        let mut paths = matchit::Router::new();
        for (path, places) in by_path {
            paths.insert(path, places).unwrap_or_else(|error| panic!("the path {path} cannot be routed: {error}"));
        }
        Self { routes, paths }
    }

    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route, or 404 for an unknown path, or 405 for a path without this method.
    pub fn find(&self, method: &Method, path: &str) -> Result<Found<'_>, Failure> {
        let below = path.strip_prefix(BASE).filter(|below| below.starts_with('/'));
        let matched = below.and_then(|below| self.paths.at(below).ok()).ok_or(Error::NotFound("path"))?;
        let of_path = || matched.value.iter().map(|place| (*place, &self.routes[*place]));
        let exact = of_path().find(|(_, route)| route.method == *method);
        // A HEAD is a GET whose body is not sent (RFC 9110, section 9.3.2).
        let head = || of_path().find(|(_, route)| method == Method::HEAD && route.method == Method::GET);
        match exact.or_else(head) {
            Some((place, route)) => {
                let parameters = matched.params.iter().map(|(_, value)| decode(value)).collect();
                Ok(Found { route, parameters, place })
            }
            None => {
                let mut allow: Vec<_> = of_path().map(|(_, route)| route.method.clone()).collect();
                if allow.contains(&Method::GET) {
                    allow.push(Method::HEAD);
                }
                Err(Failure::method_not_allowed(allow))
            }
        }
    }
}

fn decode(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}
