//! Connects the rules of webhooks with the network.

use std::sync::Arc;

use super::{StartError, failed};
use crate::config::WebhooksConfig;
use crate::domain::webhooks::target::{Nowhere, Surroundings, Targets};
use crate::domain::webhooks::{Answered, Outgoing, Post};
use crate::net::outbound::{Client, Egress, Purpose, Unreachable};
use crate::net::tls::local_ca::LocalCa;

/// Where webhooks may lead, on this machine.
pub fn targets(config: WebhooksConfig, egress: Arc<Egress>, ca: Arc<LocalCa>, port: u16) -> Arc<Targets> {
    let find = move |host: String| {
        let egress = egress.clone();
        Box::pin(async move {
            egress.addresses(Purpose::Webhook, &host).await.map_err(|why| match why {
                Unreachable::Denied(why) => Nowhere::Denied(why),
                Unreachable::Unknown(why) => Nowhere::Unknown(why),
            })
        }) as _
    };
    let is_own = Box::new(move |host: &str| ca.names().contains(host));
    Arc::new(Targets::new(config, Surroundings { find: Box::new(find), is_own, port }))
}

/// What sends deliveries, to nowhere else than `targets` permits.
pub fn sender(config: &WebhooksConfig, egress: Arc<Egress>, targets: Arc<Targets>) -> Result<Arc<Post>, StartError> {
    let permit = Box::new(move |to, is_tls| targets.permit(to, is_tls));
    let client = Client::new(egress, Purpose::Webhook, permit, config.ca_file.as_deref());
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
