//! A name may mean another address at the second look; the connection goes only where it may.

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::egress::Found;
use super::*;
use crate::config::{Destination, NetworkConfig};

#[tokio::test]
async fn a_name_that_leads_elsewhere_at_the_second_look_is_not_followed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let mut heads = Vec::new();
        while let Ok(Ok((mut stream, _))) = timeout(Duration::from_secs(1), listener.accept()).await {
            let mut head = [0; 1024];
            let length = stream.read(&mut head).await.unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            heads.push(String::from_utf8_lossy(&head[..length]).into_owned());
        }
        heads
    });
    // Only this one address may be connected to; later the name means another one, where the receiver listens as well.
    let looks = Mutex::new(vec![vec![[127, 0, 0, 1]], vec![[127, 0, 0, 2]], vec![[127, 0, 0, 2], [127, 0, 0, 1]]]);
    let lookup = move |name: String, may_ask: bool| {
        assert!(name == "receiver.example" && may_ask);
        let found = looks.lock().unwrap().remove(0).into_iter().map(IpAddr::from).collect();
        Box::pin(async { Ok(found) }) as Found
    };
    let egress = Arc::new(Egress::with(NetworkConfig::default(), Box::new(lookup)));
    let permit = |to: SocketAddr, is_tls: bool| {
        assert!(!is_tls);
        if to.ip() == IpAddr::from([127, 0, 0, 1]) { Ok(()) } else { Err("somewhere else".into()) }
    };
    let client = Client::new(egress, Purpose::Webhook, Box::new(permit), None).unwrap();
    let url = format!("http://receiver.example:{port}/hook?a=b");
    let headers = [("x-zero-event", "webhook.test".into())];
    let post = || client.post(&url, &headers, "{}".into());
    assert_eq!(post().await.unwrap().status, 204);
    assert_eq!(post().await.unwrap_err(), "receiver.example leads to somewhere else");
    assert_eq!(post().await.unwrap().status, 204, "of several addresses, one that may be connected to");
    let heads = served.await.unwrap();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{}", heads[0]);
    assert!(heads[0].contains(&format!("host: receiver.example:{port}\r\n")), "{}", heads[0]);
}

/// A receiver on every address of this machine; tells the address and the number of requests of each connection. Of these
/// connections, counted from 0, it answers only the first request and ends at the next.
async fn receiver(faithless: &'static [usize]) -> (u16, Arc<Mutex<Vec<(IpAddr, usize)>>>) {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(Mutex::new(Vec::new()));
    let noted = connections.clone();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            noted.lock().unwrap().push((stream.local_addr().unwrap().ip(), 0));
            let noted = noted.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while let Ok(1..) = stream.read(&mut request).await {
                    let requests = &mut noted.lock().unwrap()[number].1;
                    *requests += 1;
                    if *requests > 1 && faithless.contains(&number) {
                        return;
                    }
                    stream.try_write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                }
            });
        }
    });
    (port, connections)
}

/// A client for whom the name has one set of these addresses after another.
fn client(looks: &[&[[u8; 4]]]) -> Client {
    let looks: Vec<Vec<IpAddr>> =
        looks.iter().rev().map(|look| look.iter().copied().map(IpAddr::from).collect()).collect();
    let looks = Mutex::new(looks);
    let lookup = move |_, _| {
        let found = looks.lock().unwrap().pop().expect("one look for each request");
        Box::pin(async { Ok(found) }) as Found
    };
    let egress = Arc::new(Egress::with(NetworkConfig::default(), Box::new(lookup)));
    Client::new(egress, Purpose::Webhook, Box::new(|_, _| Ok(())), None).unwrap()
}

#[tokio::test]
async fn a_connection_is_used_again_while_the_name_leads_to_its_address() {
    let (port, connections) = receiver(&[]).await;
    let (one, other) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    let client = client(&[&[one], &[one], &[other], &[one, other], &[other]]);
    let url = format!("http://receiver.example:{port}/");
    for _ in 0..5 {
        let answer = client.post(&url, &[], "{}".into()).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
    }
    let connections = connections.lock().unwrap().clone();
    let addresses: Vec<_> = connections.iter().map(|(address, _)| *address).collect();
    assert_eq!(addresses, [IpAddr::from(one), IpAddr::from(other)]);
    assert_eq!(connections.iter().map(|(_, requests)| requests).sum::<usize>(), 5);
    // Another port is another place.
    let (port, others) = receiver(&[]).await;
    let client = self::client(&[&[one]]);
    client.post(&format!("http://receiver.example:{port}/"), &[], "{}".into()).await.unwrap();
    assert_eq!(others.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_lost_on_an_old_connection_is_sent_on_a_new_one() {
    let (port, connections) = receiver(&[0, 1]).await;
    let one: &[[u8; 4]] = &[[127, 0, 0, 1]];
    let client = client(&[one; 3]);
    for _ in 0..3 {
        assert_eq!(
            client.post(&format!("http://receiver.example:{port}/"), &[], "{}".into()).await.unwrap().status,
            200
        );
    }
    let requests: Vec<_> = connections.lock().unwrap().iter().map(|(_, requests)| *requests).collect();
    assert_eq!(requests, [2, 2, 1]);
}

#[test]
fn a_file_without_authorities_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let open = |file: &Path| {
        let egress = Arc::new(Egress::new(NetworkConfig::default()));
        let client = Client::new(egress, Purpose::Webhook, Box::new(|_, _| Ok(())), Some(file));
        client.err().map(|error| error.to_string())
    };
    assert!(open(&file).is_some(), "there is no file");
    std::fs::write(&file, "no certificate").unwrap();
    assert!(open(&file).unwrap().ends_with("holds no certificate in PEM"));
    let authority = rcgen::generate_simple_self_signed(["ca".into()]).unwrap();
    std::fs::write(&file, authority.cert.pem()).unwrap();
    assert_eq!(open(&file), None);
}

/// What was asked of whom, under these rules.
async fn asked(exceptions: &[&str], host: &str) -> (Result<Vec<IpAddr>, Unreachable>, Vec<(String, bool)>, u64) {
    let exceptions = exceptions.iter().map(|text| Destination::parse(text).unwrap()).collect();
    let rules = NetworkConfig { egress: crate::config::Egress::Deny, exceptions };
    let lookups = Arc::new(Mutex::new(Vec::new()));
    let noted = lookups.clone();
    let lookup = move |name: String, may_ask| {
        noted.lock().unwrap().push((name.clone(), may_ask));
        // As a hosts file would have it; servers know everything.
        let known = match name.as_str() {
            "localhost" => Ok([127, 0, 0, 1]),
            "beside.lan" => Ok([192, 168, 1, 20]),
            _ if may_ask => Ok([203, 0, 113, 7]),
            _ => Err("no such name".to_owned()),
        };
        Box::pin(async move { known.map(|address| vec![IpAddr::from(address)]) }) as Found
    };
    let egress = Egress::with(rules, Box::new(lookup));
    let found = egress.addresses(Purpose::Mail, host).await;
    let lookups = lookups.lock().unwrap().clone();
    let [_, (Purpose::Mail, refused), ..] = egress.refused() else { panic!("mail is counted elsewhere") };
    (found, lookups, refused)
}

/// An appliance that is to be alone tells the network nothing, not even a name.
#[tokio::test]
async fn nothing_is_asked_of_anybody_but_for_what_is_excepted() {
    let is_denied = |found: &Result<_, _>| matches!(found, Err(Unreachable::Denied(_)));
    for host in ["203.0.113.7", "10.0.0.1", "[2001:db8::1]", "::ffff:10.0.0.1", "169.254.169.254", "64:ff9b::7f00:1"] {
        let (found, lookups, refused) = asked(&["192.168.1.0/24", "mail.example.com"], host).await;
        assert!(is_denied(&found) && lookups.is_empty() && refused == 1, "{host}: {found:?}");
    }
    for host in ["127.0.0.1", "[::1]", "::ffff:127.0.0.1", "localhost", "192.168.1.20", "::ffff:192.168.1.20"] {
        let (found, lookups, refused) = asked(&["192.168.1.0/24"], host).await;
        assert!(found.is_ok() && lookups.iter().all(|(_, may_ask)| !may_ask) && refused == 0, "{host}: {found:?}");
    }
    for host in ["mail.example.com", "Mail.Example.COM."] {
        let (found, lookups, _) = asked(&["mail.example.com"], host).await;
        assert!(found.is_ok(), "{found:?}");
        assert_eq!(lookups, [("mail.example.com".to_owned(), true)]);
    }
    // Its address is excepted, but only a server could say so.
    for host in ["other.example.com", "mail.example.com.evil.example", "example.com"] {
        let (found, lookups, refused) = asked(&["mail.example.com", "203.0.113.0/24"], host).await;
        assert!(is_denied(&found) && lookups == [(host.to_owned(), false)] && refused == 1, "{host}: {found:?}");
    }
    let (found, ..) = asked(&["192.168.1.20"], "beside.lan").await;
    assert_eq!(found, Ok(vec![[192, 168, 1, 20].into()]), "the hosts file is the machine's own");
    assert!(is_denied(&asked(&["192.168.1.21"], "beside.lan").await.0));
}
