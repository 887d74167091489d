//! A name may mean another address at the second look; the connection goes only where it may.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

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
    let resolve = move |name: String| {
        assert_eq!(name, "receiver.example");
        let found = looks.lock().unwrap().remove(0).into_iter().map(IpAddr::from).collect();
        Box::pin(async { Ok(found) }) as Pin<Box<dyn Future<Output = _> + Send>>
    };
    let permit = |to: SocketAddr, is_tls: bool| {
        assert!(!is_tls);
        if to.ip() == IpAddr::from([127, 0, 0, 1]) { Ok(()) } else { Err("somewhere else".into()) }
    };
    let client = Client::new(Box::new(resolve), Box::new(permit), None).unwrap();
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

#[test]
fn a_file_without_authorities_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let open = |file: &Path| {
        let resolve = |_| Box::pin(async { Err(String::new()) }) as Pin<Box<dyn Future<Output = _> + Send>>;
        Client::new(Box::new(resolve), Box::new(|_, _| Ok(())), Some(file)).err().map(|error| error.to_string())
    };
    assert!(open(&file).is_some(), "there is no file");
    std::fs::write(&file, "no certificate").unwrap();
    assert!(open(&file).unwrap().ends_with("holds no certificate in PEM"));
    let authority = rcgen::generate_simple_self_signed(["ca".into()]).unwrap();
    std::fs::write(&file, authority.cert.pem()).unwrap();
    assert_eq!(open(&file), None);
}
