use std::borrow::Cow;
use std::net::Ipv4Addr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::to_raw_value;

use super::paging::{first, page_of, size, window};
use crate::clock::Time;
use crate::domain::Services;
use crate::domain::authz::Permission::{DevicesActions, DevicesDelete, DevicesEdit, DevicesEnroll, DevicesView};
use crate::domain::bulk::{BulkAction, BulkResult, Selection};
use crate::domain::devices::{DeviceChange, Known, Seen};
use crate::domain::enrollment::NewDevice;
use crate::domain::op::Op;
use crate::error::Error;
use crate::http::extract::{self, IfMatch, Path, Query, given};
use crate::http::respond::{Created, Json, NoContent, Page, Tag, Tagged};
use crate::http::route::{Access, RateClass, Route};
use crate::ids::{DeviceId, GroupId, OrganizationId, PolicyId, UserId};
use crate::model::device::{Compliance, Platform, Posture, Status};
use crate::store::index::{Filter, Sort, SortKey};

pub fn routes() -> Vec<Route> {
    use RateClass::Standard;
    vec![
        Route::get("/devices", Access::needs_or_own(DevicesView), Standard, list),
        Route::post("/devices/enroll", Access::needs(DevicesEnroll), Standard, enroll),
        Route::post("/devices/bulk", Access::needs(DevicesActions), Standard, bulk),
        Route::get("/devices/{id}", Access::needs_or_own_or_device(DevicesView), Standard, get),
        Route::patch("/devices/{id}", Access::needs_or_own(DevicesEdit), Standard, change),
        Route::delete("/devices/{id}", Access::needs(DevicesDelete), Standard, delete),
        Route::put("/devices/{id}/status", Access::needs_or_own_or_device(DevicesActions), Standard, set_status),
    ]
}

/// A device as the contract shows it.
pub(super) struct DeviceView(pub Seen);

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeviceView")]
struct DeviceMembers<'a> {
    id: DeviceId,
    organization_id: OrganizationId,
    user_id: Option<UserId>,
    device_name: &'a str,
    platform: Platform,
    agent_version: &'a str,
    os_version: Option<&'a str>,
    serial_number: Option<&'a str>,
    hostname: Option<&'a str>,
    status: Status,
    last_seen: Option<Time>,
    enrolled_at: Time,
    policy_id: Option<PolicyId>,
    policy_version: Option<u64>,
    vpn_ip: Ipv4Addr,
    wireguard_public_key: Option<&'a str>,
    compliance: Compliance,
    compliance_reasons: &'a [String],
    posture: Option<&'a Posture>,
    tags: &'a [String],
    /// The processing of its owner's data is restricted.
    restricted: bool,
    created_at: Time,
    updated_at: Time,
}

impl<'a> DeviceMembers<'a> {
    fn of(Seen { device, last_seen, judgement, reasons, restricted }: &'a Seen) -> Self {
        Self {
            id: device.id,
            organization_id: device.organization_id,
            user_id: device.user_id,
            device_name: &device.device_name,
            platform: device.platform,
            agent_version: &device.agent_version,
            os_version: device.os_version.as_deref(),
            serial_number: device.serial_number.as_deref(),
            hostname: device.hostname.as_deref(),
            status: device.status,
            last_seen: *last_seen,
            enrolled_at: device.enrolled_at,
            policy_id: judgement.policy,
            policy_version: device.policy_version,
            vpn_ip: device.vpn_ip,
            wireguard_public_key: device.wireguard_public_key.as_deref(),
            compliance: judgement.compliance,
            compliance_reasons: reasons,
            posture: device.posture.as_ref(),
            tags: &device.tags,
            restricted: *restricted,
            created_at: device.created_at,
            updated_at: device.updated_at,
        }
    }
}

impl Serialize for DeviceView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let seen = &self.0;
        let rendered = seen.device.rendered(seen.beside(), || to_raw_value(&DeviceMembers::of(seen)));
        rendered.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl JsonSchema for DeviceView {
    fn schema_name() -> Cow<'static, str> {
        DeviceMembers::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        DeviceMembers::json_schema(generator)
    }
}

/// A device among the members of something larger, where what was rendered before is of no use.
pub(super) struct FlatDevice(pub Seen);

impl Serialize for FlatDevice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        DeviceMembers::of(&self.0).serialize(serializer)
    }
}

impl JsonSchema for FlatDevice {
    fn schema_name() -> Cow<'static, str> {
        DeviceMembers::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        DeviceMembers::json_schema(generator)
    }
}

fn tagged(seen: Seen) -> Tagged<Json<DeviceView>> {
    let tag = Tag::Resource { revision: seen.device.revision, shown: seen.beside() };
    Tagged { tag, answer: Json(DeviceView(seen)) }
}

/// The schema alone refuses what is unknown: serde cannot together with `flatten`.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ListQuery {
    #[serde(default = "first")]
    #[schemars(range(min = 1))]
    page: u64,
    #[serde(default = "size")]
    #[schemars(range(min = 1, max = 100))]
    page_size: u64,
    sort: Option<SortBy>,
    #[serde(flatten)]
    filter: FilterBody,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
enum SortBy {
    #[serde(rename = "created_at")]
    CreatedAt,
    #[serde(rename = "-created_at")]
    NewestFirst,
    #[serde(rename = "last_seen")]
    LastSeen,
    #[serde(rename = "-last_seen")]
    LastSeenFirst,
    #[serde(rename = "device_name")]
    DeviceName,
    #[serde(rename = "-device_name")]
    DeviceNameDescending,
}

impl From<SortBy> for Sort {
    fn from(by: SortBy) -> Self {
        let (key, descending) = match by {
            SortBy::CreatedAt => (SortKey::CreatedAt, false),
            SortBy::NewestFirst => (SortKey::CreatedAt, true),
            SortBy::LastSeen => (SortKey::LastSeen, false),
            SortBy::LastSeenFirst => (SortKey::LastSeen, true),
            SortBy::DeviceName => (SortKey::DeviceName, false),
            SortBy::DeviceNameDescending => (SortKey::DeviceName, true),
        };
        Self { key, descending }
    }
}

/// Which devices, as a list's query or as a bulk action's filter.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FilterBody {
    status: Option<Status>,
    platform: Option<Platform>,
    user_id: Option<UserId>,
    policy_id: Option<PolicyId>,
    group_id: Option<GroupId>,
    compliance: Option<Compliance>,
    /// Part of the name, the hostname or the serial number, in whatever case.
    #[schemars(length(max = 200))]
    q: Option<String>,
}

impl From<FilterBody> for Filter {
    fn from(from: FilterBody) -> Self {
        Self {
            statuses: from.status.into_iter().collect(),
            platforms: from.platform.into_iter().collect(),
            compliances: from.compliance.into_iter().collect(),
            users: from.user_id.into_iter().collect(),
            without_users: Vec::new(),
            policies: from.policy_id.into_iter().collect(),
            members: Vec::new(),
            groups: from.group_id.into_iter().collect(),
            text: from.q.unwrap_or_default(),
        }
    }
}

async fn list(services: &Services, op: Op, Query(query): Query<ListQuery>) -> Result<Json<Page<DeviceView>>, Error> {
    let ListQuery { page, page_size, sort, filter } = query;
    let (offset, limit) = window(page, page_size);
    let (total, found) =
        services.devices(&op, filter.into(), sort.map(Into::into).unwrap_or_default(), offset, limit)?;
    Ok(Json(page_of(page, page_size, total, found.into_iter().map(DeviceView).collect())))
}

async fn get(services: &Services, op: Op, Path(id): Path<DeviceId>) -> Result<Tagged<Json<DeviceView>>, Error> {
    services.device(&op, id).map(tagged)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EnrollDevice {
    #[schemars(length(min = 1, max = 200))]
    device_name: String,
    platform: Platform,
    #[schemars(length(min = 1, max = 64))]
    agent_version: String,
    #[schemars(length(max = 64))]
    os_version: Option<String>,
    #[schemars(length(min = 1, max = 128))]
    serial_number: Option<String>,
    #[schemars(length(max = 253))]
    hostname: Option<String>,
    /// A PKCS #10 signing request in PEM: the answer then has a client certificate.
    #[schemars(length(max = 16384))]
    csr: Option<String>,
    #[schemars(length(max = 64))]
    wireguard_public_key: Option<String>,
}

/// A device that has just enrolled, with what is shown only now.
#[derive(Serialize, JsonSchema)]
struct EnrolledDevice {
    #[serde(flatten)]
    device: FlatDevice,
    /// Shown only here.
    device_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_certificate: Option<String>,
}

async fn enroll(
    services: &Services,
    op: Op,
    extract::Json(new): extract::Json<EnrollDevice>,
) -> Result<Created<EnrolledDevice>, Error> {
    let EnrollDevice { device_name, platform, agent_version, os_version, serial_number, hostname, .. } = new;
    let (csr, wireguard_public_key) = (new.csr, new.wireguard_public_key);
    let new = NewDevice {
        device_name,
        platform,
        agent_version,
        os_version,
        serial_number,
        hostname,
        csr,
        wireguard_public_key,
    };
    let enrolled = services.enroll(&op, new).await?;
    Ok(Created {
        location: format!("/api/v1/devices/{}", enrolled.device.id),
        resource: EnrolledDevice {
            device: FlatDevice(services.seen(Known::new(enrolled.device))),
            device_token: enrolled.device_token,
            certificate: enrolled.certificate,
            ca_certificate: enrolled.ca_certificate,
        },
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeDevice {
    #[schemars(length(min = 1, max = 200))]
    device_name: Option<String>,
    /// `null` takes the device from its user.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<UserId>")]
    user_id: Option<Option<UserId>>,
    /// The policy assigned to the device itself; `null` takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<PolicyId>")]
    policy_id: Option<Option<PolicyId>>,
    #[schemars(length(max = 50), inner(length(min = 1, max = 64)))]
    tags: Option<Vec<String>>,
}

async fn change(
    services: &Services,
    op: Op,
    Path(id): Path<DeviceId>,
    IfMatch(revision): IfMatch,
    extract::Json(change): extract::Json<ChangeDevice>,
) -> Result<Tagged<Json<DeviceView>>, Error> {
    let ChangeDevice { device_name, user_id, policy_id, tags } = change;
    services.change_device(&op, id, DeviceChange { device_name, user_id, policy_id, tags }, revision).await.map(tagged)
}

async fn delete(
    services: &Services,
    op: Op,
    Path(id): Path<DeviceId>,
    IfMatch(revision): IfMatch,
) -> Result<NoContent, Error> {
    services.delete_device(&op, id, revision).await.map(|()| NoContent)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewStatus {
    status: Status,
}

async fn set_status(
    services: &Services,
    op: Op,
    Path(id): Path<DeviceId>,
    extract::Json(NewStatus { status }): extract::Json<NewStatus>,
) -> Result<Tagged<Json<DeviceView>>, Error> {
    services.set_status(&op, id, status).await.map(tagged)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Bulk {
    action: BulkAction,
    /// Which devices; either this or `filter`.
    #[schemars(length(min = 1, max = 1000))]
    ids: Option<Vec<DeviceId>>,
    filter: Option<FilterBody>,
}

#[derive(Serialize, JsonSchema)]
struct BulkView {
    results: Vec<BulkItem>,
    succeeded: usize,
    failed: usize,
}

#[derive(Serialize, JsonSchema)]
struct BulkItem {
    id: DeviceId,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

async fn bulk(
    services: &Services,
    op: Op,
    extract::Json(Bulk { action, ids, filter }): extract::Json<Bulk>,
) -> Result<Json<BulkView>, Error> {
    let selection = match (ids, filter) {
        (Some(ids), None) => Selection::Ids(ids),
        (None, Some(filter)) => Selection::Filter(filter.into()),
        _ => return Err(Error::field("ids", "or filter is required, and not both")),
    };
    let results = services.bulk(&op, action, selection).await?;
    let failed = results.iter().filter(|result| result.error.is_some()).count();
    let succeeded = results.len() - failed;
    let item = |BulkResult { id, error }: BulkResult| BulkItem { id, ok: error.is_none(), error };
    Ok(Json(BulkView { results: results.into_iter().map(item).collect(), succeeded, failed }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::schema::Checker;

    #[test]
    fn a_list_s_query_is_read_whole_and_what_it_does_not_know_is_named() {
        let checker = Checker::<ListQuery>::for_type();
        let said = |query: &str| match checker.check_query(query) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        let query = checker.check_query("page=2&status=online&q=a&sort=-last_seen").ok().unwrap();
        let FilterBody { status, q, platform, .. } = query.filter;
        assert_eq!((query.page, query.page_size), (2, 20));
        assert_eq!((status, q.as_deref(), platform), (Some(Status::Online), Some("a"), None));
        assert_eq!(said("colour=red&page=0"), ["page must be at least 1", "colour is not a known member"]);
        assert_eq!(said("status=red"), ["status must be one of online, suspended, pending, offline, wiped"]);
    }
}
