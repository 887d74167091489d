//! Who may speak for others at the entrance, and how they do it: the PROXY protocol, version 2, as HAProxy has it.
//!
//! All of it can be replaced while connections are open. A connection keeps what held when it was accepted; it is told
//! to end after the requests under way, so that its client comes back through the new entrance.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use ppp::v2::{Addresses, Command, Header};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The proxies in front of the appliance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxies {
    pub trusted: Vec<IpNet>,
    /// Their connections begin with a header that names the client. Nobody else's do.
    pub header: bool,
}

impl Proxies {
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

pub struct Entrance {
    proxies: ArcSwap<Proxies>,
    /// How often the entrance was replaced.
    replaced: watch::Sender<u64>,
}

impl Entrance {
    pub fn new(proxies: Proxies) -> Self {
        Self { proxies: ArcSwap::from_pointee(proxies), replaced: watch::Sender::new(0) }
    }

    pub fn proxies(&self) -> Arc<Proxies> {
        self.proxies.load_full()
    }

    /// From now on connections are accepted with these. Returns the number of the new entrance.
    pub fn replace(&self, proxies: Arc<Proxies>) -> u64 {
        self.proxies.store(proxies);
        let mut number = 0;
        self.replaced.send_modify(|replaced| {
            *replaced += 1;
            number = *replaced;
        });
        number
    }

    /// For a connection that is being accepted: the number of its entrance, and how it hears of the next one.
    pub(super) fn enter(&self) -> (u64, watch::Receiver<u64>) {
        let mut replaced = self.replaced.subscribe();
        let number = *replaced.borrow_and_update();
        (number, replaced)
    }
}

/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// Addresses and a few additions, such as the name of the certificate that the client has shown to the proxy.
const LONGEST: usize = 2048;

/// Takes the header off the front of the connection, and not a byte more. Returns the client that it names: `proxy`
/// itself, where the proxy speaks for itself (LOCAL), or for somebody without an IP address.
pub(super) async fn read_header(socket: &mut TcpStream, proxy: SocketAddr) -> io::Result<SocketAddr> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut bytes = vec![0; FIXED];
    socket.read_exact(&mut bytes).await?;
    if !bytes.starts_with(ppp::v2::PROTOCOL_PREFIX) {
        return Err(wrong("it does not begin with a PROXY header of version 2".into()));
    }
    let length = usize::from(u16::from_be_bytes([bytes[FIXED - 2], bytes[FIXED - 1]]));
    if length > LONGEST {
        return Err(wrong(format!("its PROXY header has {length} bytes, more than {LONGEST}")));
    }
    bytes.resize(FIXED + length, 0);
    socket.read_exact(&mut bytes[FIXED..]).await?;
    let header = Header::try_from(bytes.as_slice()).map_err(|error| wrong(format!("its PROXY header: {error}")))?;
    Ok(match (header.command, header.addresses) {
        (Command::Proxy, Addresses::IPv4(named)) => (named.source_address, named.source_port).into(),
        (Command::Proxy, Addresses::IPv6(named)) => (named.source_address, named.source_port).into(),
        (Command::Local, _) | (Command::Proxy, Addresses::Unspecified | Addresses::Unix(_)) => proxy,
    })
}
