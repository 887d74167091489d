//! A preview is what saving then does.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::effective_policies::{assign, device, effective, group, person, policy};
use crate::organizations::text;
use crate::server::Server;

const SETTINGS: [&str; 7] = [
    "usb.allowed",
    "dlp.screenshot_allowed",
    "network.vpn_required",
    "network.vpn_always_on",
    "storage.encryption_required",
    "compliance.encryption_required",
    "compliance.passcode_required",
];

/// Three policies, four groups, users and devices, by their places.
#[derive(Clone, Debug)]
struct Case {
    policy: usize,
    settings: Option<Vec<Option<bool>>>,
    extends: Option<usize>,
    active: bool,
    assign: Picked,
    unassign: Picked,
}

#[derive(Clone, Debug)]
struct Picked {
    devices: Vec<usize>,
    users: Vec<usize>,
    groups: Vec<usize>,
    default: bool,
}

fn picked() -> impl Strategy<Value = Picked> {
    let some = || proptest::sample::subsequence((0..4).collect::<Vec<usize>>(), 0..=2);
    (some(), some(), some(), proptest::bool::weighted(0.2)).prop_map(|(devices, users, groups, default)| Picked {
        devices,
        users,
        groups,
        default,
    })
}

fn case() -> impl Strategy<Value = Case> {
    let settings = proptest::option::weighted(0.8, prop::collection::vec(any::<Option<bool>>(), SETTINGS.len()));
    let extends = proptest::option::weighted(0.4, 0..3_usize);
    (0..3_usize, settings, extends, proptest::bool::weighted(0.9), picked(), picked()).prop_map(
        |(policy, settings, extends, active, assign, unassign)| Case {
            policy,
            settings,
            extends,
            active,
            assign,
            unassign,
        },
    )
}

struct World {
    server: Server,
    admin: String,
    policies: Vec<String>,
    groups: Vec<String>,
    users: Vec<String>,
    devices: Vec<String>,
}

/// The settings in force on each device by their paths, and whether it complies.
type Fleet = BTreeMap<String, (BTreeMap<String, Value>, String)>;

impl World {
    async fn new() -> Self {
        let server = Server::start().await;
        let admin = server.token().await;
        let (mut policies, mut groups, mut users, mut devices) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for at in 0..4 {
            let user = person(&server, &admin, &format!("User{at}")).await;
            let parent = groups.last().filter(|_| at != 2).cloned();
            groups.push(group(&server, &admin, &format!("Group {at}"), parent.as_deref(), &[&user]).await);
            let owner = if at == 3 { json!({"group_id": groups[0]}) } else { json!({"user_id": user}) };
            let (id, token) = device(&server, &admin, &format!("device {at}"), owner).await;
            let posture = [
                json!({"disk_encrypted": true, "passcode_set": true}),
                json!({"disk_encrypted": false, "passcode_set": true}),
                json!({"disk_encrypted": true, "passcode_set": false}),
                json!({}),
            ];
            let report = json!({"posture": posture[at]});
            server.post(&format!("/devices/{id}/checkin"), &token, report).await.expect(200);
            users.push(user);
            devices.push(id);
        }
        for at in 0..3 {
            let data = json!({"usb": {"allowed": at == 1}, "compliance": {"passcode_required": at == 0}});
            policies.push(policy(&server, &admin, &format!("Policy {at}"), data).await);
        }
        assign(&server, &admin, &policies[0], json!({"default": true})).await;
        assign(&server, &admin, &policies[1], json!({"group_ids": [groups[0]]})).await;
        Self { server, admin, policies, groups, users, devices }
    }

    fn targets(&self, picked: &Picked) -> Value {
        let ids = |of: &[String], places: &[usize]| places.iter().map(|at| of[*at].clone()).collect::<Vec<_>>();
        json!({
            "device_ids": ids(&self.devices, &picked.devices),
            "user_ids": ids(&self.users, &picked.users),
            "group_ids": ids(&self.groups, &picked.groups),
            "default": picked.default,
        })
    }

    fn content(&self, case: &Case) -> Option<Value> {
        let mut data = json!({});
        for (path, value) in SETTINGS.iter().zip(case.settings.as_ref()?) {
            let (section, name) = path.split_once('.').unwrap();
            if let Some(value) = value {
                data[section][name] = json!(value);
            }
        }
        let extends = case.extends.map(|at| self.policies[at].clone());
        let name = format!("Policy {}", case.policy);
        Some(json!({"name": name, "policy_data": data, "extends": extends, "active": case.active}))
    }

    async fn fleet(&self) -> Fleet {
        let mut fleet = Fleet::new();
        for id in &self.devices {
            let data = effective(&self.server, &self.admin, id).await["policy_data"].take();
            let sections = data.as_object().unwrap().iter();
            let settings = sections.flat_map(|(section, settings)| {
                let settings = settings.as_object().unwrap().iter();
                settings.map(move |(name, value)| (format!("{section}.{name}"), value.clone()))
            });
            let device = self.server.get(&format!("/devices/{id}"), &self.admin).await.expect(200);
            fleet.insert(id.clone(), (settings.collect(), text(&device["compliance"])));
        }
        fleet
    }

    /// False when the case is refused, by the preview as by saving.
    async fn try_case(&self, case: &Case) -> bool {
        let path = format!("/policies/{}", self.policies[case.policy]);
        let content = self.content(case);
        let (assign, unassign) = (self.targets(&case.assign), self.targets(&case.unassign));
        let proposal = json!({"policy": content, "assign": assign, "unassign": unassign});
        let preview = async |query: &str| {
            let path = format!("{path}/preview?page_size=100{query}");
            self.server.post(&path, &self.admin, proposal.clone()).await
        };
        let (shown, falling) = (preview("").await, preview("&falling_out=true").await);
        let before = self.fleet().await;
        if let Some(content) = content {
            let saved = self.server.put(&path, &self.admin, content).await;
            if saved.status != 200 {
                let (refused, foreseen) = (saved.expect(400), shown.expect(400));
                let foreseen = text(&foreseen["details"]).replace("policy.policy_data", "policy_data");
                assert_eq!(foreseen.replace("policy.extends", "extends"), text(&refused["details"]));
                return false;
            }
        }
        for (call, targets) in [("unassign", unassign), ("assign", assign)] {
            let is_empty = targets.as_object().unwrap().values().all(|of| *of == json!([]) || *of == json!(false));
            if !is_empty {
                self.server.post(&format!("{path}/{call}"), &self.admin, targets).await.expect(200);
            }
        }
        let after = self.fleet().await;
        assert_foreseen(&shown.expect(200), &falling.expect(200), &before, &after, case);
        true
    }
}

fn assert_foreseen(shown: &Value, falling: &Value, before: &Fleet, after: &Fleet, case: &Case) {
    let mut changed = BTreeMap::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (id, (old, was)) in before {
        let (new, is) = &after[id];
        let paths: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let paths = paths.into_iter().filter(|path| old.get(*path) != new.get(*path));
        let settings: Vec<Value> =
            paths.map(|path| json!({"path": path, "before": old.get(path), "after": new.get(path)})).collect();
        if settings.is_empty() {
            assert_eq!(was, is, "{case:?}");
            continue;
        }
        settings.iter().for_each(|setting| *counts.entry(setting.to_string()).or_default() += 1);
        changed.insert(id.clone(), json!([settings, was, is]));
    }
    let listed = |page: &Value| {
        let devices = page["devices"]["data"].as_array().unwrap().iter();
        let device = |device: &Value| {
            let verdicts = (&device["compliance_before"], &device["compliance_after"]);
            (text(&device["device_id"]), json!([device["settings"], verdicts.0, verdicts.1]))
        };
        devices.map(device).collect::<BTreeMap<String, Value>>()
    };
    assert_eq!(listed(shown), changed, "{case:?}");
    assert_eq!((&shown["total_devices"], &shown["changed_devices"]), (&json!(before.len()), &json!(changed.len())));
    let falls = |device: &Value| device[2] == "non_compliant" && device[1] != "non_compliant";
    changed.retain(|_, device| falls(device));
    assert_eq!(listed(falling), changed, "{case:?}");
    assert_eq!(shown["falling_out_of_compliance"], json!(changed.len()), "{case:?}");
    for verdict in ["compliant", "non_compliant", "unknown"] {
        let count = |fleet: &Fleet| fleet.values().filter(|(_, is)| is == verdict).count();
        assert_eq!(shown["compliance"][verdict], json!({"before": count(before), "after": count(after)}), "{case:?}");
    }
    let settings = shown["settings"].as_array().unwrap().iter().map(|setting| {
        let change = json!({"path": setting["path"], "before": setting["before"], "after": setting["after"]});
        (change.to_string(), setting["devices"].as_u64().unwrap())
    });
    assert_eq!(settings.collect::<BTreeMap<_, _>>(), counts, "{case:?}");
}

#[tokio::test]
async fn what_a_preview_shows_is_what_saving_does() {
    let world = World::new().await;
    let mut runner = TestRunner::deterministic();
    let (mut saved, mut refused) = (0, 0);
    for _ in 0..40 {
        let case = case().new_tree(&mut runner).unwrap().current();
        if world.try_case(&case).await { saved += 1 } else { refused += 1 }
    }
    assert!(saved >= 10 && refused >= 1, "{saved} were saved and {refused} refused: these cases try too little");
}

#[tokio::test]
async fn a_preview_of_what_cannot_be_saved_is_refused_and_says_why() {
    let server = Server::start().await;
    let admin = server.token().await;
    let id = policy(&server, &admin, "P", json!({})).await;
    let nobody = "01900000-0000-7000-8000-000000000000";
    for (proposal, details) in [
        (
            json!({"policy": {"name": "P", "policy_data": {"usb": {"whitelist": ["x"]}}}}),
            "policy.policy_data.usb.whitelist[0] is not vendor:product",
        ),
        (
            json!({"policy": {"name": "P", "policy_data": {"network": {"vpn_always_on": true}}}}),
            "policy.policy_data.network.vpn_always_on contradicts policy_data.network.vpn_required",
        ),
        (json!({"policy": {"name": "P", "policy_data": {}, "extends": id}}), "policy.extends makes a cycle: P → P"),
        (json!({"assign": {"device_ids": [nobody]}}), "assign.device_ids[0] names no device"),
        (json!({"unassign": {"group_ids": [nobody]}}), "unassign.group_ids[0] names no group"),
        (json!({"assign": {"user_ids": [nobody]}}), "assign.user_ids[0] names no user"),
    ] {
        let refused = server.post(&format!("/policies/{id}/preview"), &admin, proposal).await.expect(400);
        assert!(text(&refused["details"]).starts_with(details), "{refused}");
    }
}
