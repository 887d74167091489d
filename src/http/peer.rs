//! Which address a request comes from, when proxies may stand between.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;

/// The client's address. `X-Forwarded-For` counts only as far as it was written by trusted proxies: read from its end,
/// the first address that is not one of theirs is the client's.
pub fn client_address(socket: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let socket = socket.to_canonical();
    if !is_trusted(socket) {
        return socket;
    }
    let hops: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let mut client = socket;
    for hop in hops.into_iter().rev() {
        match hop.parse::<IpAddr>() {
            Ok(address) => client = address.to_canonical(),
            Err(_) => break,
        }
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// Notices a proxy that nobody has named: everything comes from one address, and it says that it speaks for others.
#[derive(Default)]
pub struct UnknownProxy(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// Where the last requests came from, and how many of them.
    run: Option<(IpAddr, u32)>,
    logged: Option<IpAddr>,
}

impl UnknownProxy {
    /// Requests in a row that are taken for all of them: fewer may be one person who tries something out.
    const ENOUGH: u32 = 100;

    /// A request has come from `socket`.
    pub fn note(&self, socket: IpAddr, headers: &HeaderMap, is_trusted: bool) {
        let socket = socket.to_canonical();
        let speaks_for_another = !is_trusted && headers.contains_key("x-forwarded-for");
        // The machine itself asks how the appliance is, without any proxy.
        if !speaks_for_another && !is_trusted && socket.is_loopback() {
            return;
        }
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !speaks_for_another {
            seen.run = None;
            return;
        }
        let before = seen.run.filter(|(address, _)| *address == socket).map_or(0, |(_, count)| count);
        let count = before.saturating_add(1);
        seen.run = Some((socket, count));
        if count >= Self::ENOUGH && seen.logged != Some(socket) {
            seen.logged = Some(socket);
            tracing::warn!(
                address = %socket,
                "all requests come from {socket} and carry X-Forwarded-For: if that is your proxy, set \
                 server.trusted_proxies = [\"{socket}\"]; until then limits and the audit log take everybody for it"
            );
        }
    }

    pub fn found(&self) -> Option<IpAddr> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.run.filter(|(_, count)| *count >= Self::ENOUGH).map(|(address, _)| address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(socket: &str, forwarded: &[&'static str]) -> String {
        let trusted: [ipnet::IpNet; 2] = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", http::HeaderValue::from_static(value));
        }
        client_address(socket.parse().unwrap(), &headers, is_trusted).to_string()
    }

    #[test]
    fn nobody_but_a_trusted_proxy_can_say_who_they_are() {
        assert_eq!(client("192.0.2.7", &["203.0.113.9"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        // What the client itself wrote stands before what the proxy added.
        assert_eq!(client("10.0.0.1", &["198.51.100.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["198.51.100.1", "203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("::1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("::ffff:10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
    }

    #[test]
    fn an_unnamed_proxy_is_noticed_once_everything_comes_through_it_and_not_before() {
        let watch = UnknownProxy::default();
        let (proxy, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut forwarded = HeaderMap::new();
        forwarded.insert("x-forwarded-for", http::HeaderValue::from_static("203.0.113.9"));
        let through = |times| (0..times).for_each(|_| watch.note(proxy, &forwarded, false));
        through(99);
        watch.note(other, &HeaderMap::new(), false);
        through(99);
        assert_eq!(watch.found(), None, "somebody comes another way");
        watch.note(IpAddr::from([127, 0, 0, 1]), &HeaderMap::new(), false);
        through(1);
        assert_eq!(watch.found(), Some(proxy), "the machine itself may");
        watch.note(proxy, &forwarded, true);
        assert_eq!(watch.found(), None, "it is named now");
    }
}
