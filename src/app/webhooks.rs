//! Connects the rules of webhooks with the network.

use std::sync::Arc;

use super::{StartError, failed};
use crate::config::WebhooksConfig;
use crate::domain::webhooks::target::{Surroundings, Targets};
use crate::domain::webhooks::{Answered, Outgoing, Post};
use crate::net::outbound::{self, Client};
use crate::net::tls::local_ca::LocalCa;

/// Where webhooks may lead, on this machine.
pub fn targets(config: WebhooksConfig, ca: Arc<LocalCa>, port: u16) -> Arc<Targets> {
    let around = Surroundings {
        resolve: Box::new(|name| Box::pin(async move { outbound::resolve(&name).await })),
        is_own: Box::new(move |host| ca.names().contains(host)),
        port,
    };
    Arc::new(Targets::new(config, around))
}

/// What sends deliveries, to nowhere else than `targets` permits.
pub fn sender(config: &WebhooksConfig, targets: Arc<Targets>) -> Result<Arc<Post>, StartError> {
    let resolve = Box::new(|name: String| Box::pin(async move { outbound::resolve(&name).await }) as _);
    let permit = Box::new(move |to, is_tls| targets.permit(to, is_tls));
    let client = Client::new(resolve, permit, config.ca_file.as_deref());
    let client = client.map_err(|error| failed(format_args!("webhooks.ca_file: {error}")))?;
    let client = Arc::new(client);
    Ok(Arc::new(move |Outgoing { url, headers, body, .. }| {
        let client = client.clone();
        Box::pin(async move {
            let answer = client.post(&url, &headers, body).await?;
            Ok(Answered { status: answer.status, body: answer.body })
        })
    }))
}
