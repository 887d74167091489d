//! Names to addresses, as the machine's own settings say.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// The addresses that the name has now, by `/etc/hosts` and, where they may be asked, the servers of `/etc/resolv.conf`,
/// both read anew: a machine that moves to another network has others there.
///
/// # Errors
/// Why it has none.
pub(super) async fn resolve(name: &str, may_ask: bool) -> Result<Vec<IpAddr>, String> {
    let wrong = |cause: &dyn std::fmt::Display| format!("the name {name} cannot be resolved: {cause}");
    // Without settings there are no servers to ask, but names in the hosts file.
    let alone = || TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default());
    let builder = if may_ask { TokioResolver::builder_tokio().unwrap_or_else(|_| alone()) } else { alone() };
    let resolver = builder.build().map_err(|cause| wrong(&cause))?;
    let found = resolver.lookup_ip(name).await.map_err(|cause| wrong(&cause))?;
    Ok(found.iter().collect())
}
