//! Before TLS: a look at the first byte, and a hint for those who speak plain HTTP to this port.

use std::io;
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::serve::Peer;
use super::{Refuse, Refused, last_on_its_connection};

/// The content type of a TLS handshake record (RFC 8446, section 5.1), with which every TLS connection starts.
pub(super) const HANDSHAKE_RECORD: u8 = 22;
const LONGEST_HEADER: usize = 8 * 1024;
const METHODS: [&[u8]; 9] =
    [b"GET ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"HEAD ", b"OPTIONS ", b"TRACE ", b"CONNECT "];

/// Waits for the client's first byte and leaves it in the socket.
pub(super) async fn first_byte(socket: &TcpStream) -> io::Result<u8> {
    let mut first = [0];
    match socket.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0]),
    }
}

/// Answers an HTTP request in clear with where to go instead. Anything else gets no answer.
pub(super) async fn hint(mut socket: TcpStream, peer: Peer, patience: Duration, refuse: &Refuse) -> io::Result<()> {
    let mut header = Vec::new();
    let is_http = tokio::time::timeout(patience, read_header(&mut socket, &mut header));
    if !is_http.await.map_err(|_| io::ErrorKind::TimedOut)?? {
        return Ok(());
    }
    let host = host(&header).map(str::to_owned).map_or_else(|| socket.local_addr().map(|a| a.to_string()), Ok)?;
    let details = format!("use https://{host} instead");
    let response = refuse(Refused::new(StatusCode::BAD_REQUEST, "this port speaks HTTPS", details), peer);
    let response = last_on_its_connection(&response);
    tokio::time::timeout(patience, socket.write_all(&response)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    socket.shutdown().await?;
    linger(&mut socket).await;
    Ok(())
}

/// Reads to the end of the header, and says whether it is one of HTTP/1.
async fn read_header(socket: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let is_method = |method: &&[u8]| header.starts_with(method) || method.starts_with(header);
        if !METHODS.iter().any(is_method) {
            return Ok(false);
        }
        if header.len() >= LONGEST_HEADER || memchr::memmem::find(header, b"\r\n\r\n").is_some() {
            return Ok(true);
        }
        let mut piece = [0; 1024];
        match socket.read(&mut piece).await? {
            0 => return Ok(false),
            read => header.extend_from_slice(&piece[..read]),
        }
    }
}

/// The `Host` of the request, if nothing but a host can be read from it: it is repeated to the client.
fn host(header: &[u8]) -> Option<&str> {
    let lines = header.split(|byte| *byte == b'\n').skip(1);
    let value = lines.filter_map(|line| std::str::from_utf8(line).ok()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    })?;
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    ((1..=255).contains(&value.len()) && value.bytes().all(is_host)).then_some(value)
}

/// Takes what a client is still sending, for a moment. Closing a socket with unread data makes the system send a
/// reset, at which the client may lose the answer that it was to read (RFC 9112, section 9.6).
pub(super) async fn linger(socket: &mut TcpStream) {
    const LONGEST: Duration = Duration::from_secs(1);
    const MOST: usize = 1024 * 1024;
    let drain = async {
        let mut left = MOST;
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = socket.read(&mut buffer).await {
            left = left.saturating_sub(read);
            if left == 0 {
                break;
            }
        }
    };
    // Whether it has all arrived makes no difference to what follows.
    _ = tokio::time::timeout(LONGEST, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_repeats_a_host_but_nothing_else_that_a_client_sends() {
        let with = |host: &str| format!("GET / HTTP/1.1\r\naccept: */*\r\nHOST: {host}\r\n\r\n");
        assert_eq!(host(with("zero.lan:8443").as_bytes()), Some("zero.lan:8443"));
        assert_eq!(host(with("[::1]:8443").as_bytes()), Some("[::1]:8443"));
        for bad in ["", "a/b", "a@b", "\"", "<script>", "a b", &"a".repeat(256)] {
            assert_eq!(host(with(bad).as_bytes()), None, "{bad}");
        }
        assert_eq!(host(b"GET / HTTP/1.0\r\n\r\n"), None);
    }
}
