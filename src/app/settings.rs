//! Puts settings that were changed while the appliance runs into force.

use std::sync::Arc;

use super::certificates::Certificates;
use crate::config::Config;
use crate::domain::settings::{Enforce, Enforced};
use crate::net::entrance::{Entrance, Proxies};

/// First the certificates and names, then the proxies, which also tells open connections to come again.
pub fn enforcer(certificates: Arc<Certificates>, entrance: Arc<Entrance>) -> Box<Enforce> {
    Box::new(move |config: &Config| {
        let restore = certificates.replace(config)?;
        let before = entrance.proxies();
        let trusted = config.server.trusted_proxies.clone();
        let number = entrance.replace(Arc::new(Proxies { trusted, header: config.server.proxy_protocol }));
        let entrance = entrance.clone();
        let undo = Box::new(move || {
            restore();
            entrance.replace(before);
        });
        Ok(Enforced { entrance: number, undo })
    })
}
