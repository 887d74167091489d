//! The index against a plain list that is filtered and sorted from scratch for every question.

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use uuid::Uuid;

use super::*;

/// Few ids, so that devices come back and are found; more than a word has bits.
const IDS: u128 = 150;

#[derive(Clone, Debug)]
struct Device {
    status: Status,
    platform: Platform,
    compliance: Compliance,
    user: Option<UserId>,
    policy: Option<PolicyId>,
    groups: Vec<GroupId>,
    last_seen: Option<Time>,
    name: String,
    hostname: Option<String>,
    serial: Option<String>,
}

impl Device {
    fn facts(&self, id: DeviceId) -> Facts<'_> {
        Facts {
            id,
            status: self.status,
            platform: self.platform,
            compliance: self.compliance,
            user: self.user,
            policy: self.policy,
            assigned: None,
            groups: &self.groups,
            report: Report::default(),
            last_seen: self.last_seen,
            name: &self.name,
            hostname: self.hostname.as_deref(),
            serial: self.serial.as_deref(),
        }
    }

    fn matches(&self, filter: &Filter) -> bool {
        fn one<T: PartialEq>(wanted: &[T], has: &[T]) -> bool {
            wanted.is_empty() || has.iter().any(|value| wanted.contains(value))
        }
        let fields = [Some(&self.name), self.hostname.as_ref(), self.serial.as_ref()];
        one(&filter.statuses, &[self.status])
            && one(&filter.platforms, &[self.platform])
            && one(&filter.compliances, &[self.compliance])
            && one(&filter.users, self.user.as_slice())
            && !self.user.is_some_and(|user| filter.without_users.contains(&user))
            && one(&filter.policies, self.policy.as_slice())
            && (filter.groups.is_empty() && filter.members.is_empty()
                || self.groups.iter().any(|group| filter.groups.contains(group))
                || self.user.is_some_and(|user| filter.members.contains(&user)))
            && fields.into_iter().flatten().any(|field| lower(field).contains(&lower(&filter.text)))
    }
}

fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

#[derive(Default)]
struct Model(BTreeMap<DeviceId, Device>);

impl Model {
    fn upsert(&mut self, id: DeviceId, mut device: Device) {
        device.last_seen = device.last_seen.max(self.0.get(&id).and_then(|old| old.last_seen));
        self.0.insert(id, device);
    }

    fn sorted(&self, filter: &Filter, sort: Sort) -> Vec<DeviceId> {
        let mut found: Vec<_> = self.0.iter().filter(|(_, device)| device.matches(filter)).collect();
        match sort.key {
            SortKey::CreatedAt => {}
            SortKey::LastSeen => found.sort_by_key(|(_, device)| device.last_seen),
            SortKey::DeviceName => found.sort_by_key(|(_, device)| lower(&device.name)),
        }
        if sort.descending {
            found.reverse();
        }
        found.into_iter().map(|(id, _)| *id).collect()
    }

    fn silent_since(&self, time: Time) -> Vec<DeviceId> {
        let online = Filter { statuses: vec![Status::Online], ..Filter::default() };
        let mut ids = self.sorted(&online, Sort { key: SortKey::LastSeen, descending: false });
        ids.retain(|id| self.0[id].last_seen.is_none_or(|seen| seen < time));
        ids
    }
}

fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n))
}

#[derive(Clone, Debug)]
enum Change {
    Upsert(DeviceId, Device),
    Remove(DeviceId),
    RemoveMany(Range<u128>),
    Touch(DeviceId, Time),
    Judge(DeviceId, Option<PolicyId>, Compliance),
}

#[derive(Clone, Debug)]
struct Question {
    filter: Filter,
    sort: Sort,
    offset: u64,
    limit: usize,
    time: Time,
}

/// Few letters, so that texts share parts; some grow, shrink or take more bytes when lower-cased.
fn some_text(max: usize) -> impl Strategy<Value = String> {
    vec(select(vec!['a', 'A', 'b', 'B', '-', '1', 'é', 'É', 'Σ', 'σ', 'İ', '\u{212A}', '\u{10FFFF}', '\0']), 0..=max)
        .prop_map(String::from_iter)
}

fn some_time() -> impl Strategy<Value = Time> {
    (-3..12i64).prop_map(Time::from_unix)
}

fn some_id() -> impl Strategy<Value = DeviceId> {
    (0..IDS).prop_map(id)
}

fn some_device() -> impl Strategy<Value = Device> {
    let words = (select(Status::ALL), select(Platform::ALL), select(Compliance::ALL));
    let owners = (option::of(0..20u128), option::of(0..3u128), vec(0..4u128, 0..=3));
    let texts = (some_text(9), option::of(some_text(6)), option::of(some_text(4)));
    (words, owners, texts, option::of(some_time())).prop_map(|(words, owners, texts, last_seen)| Device {
        status: words.0,
        platform: words.1,
        compliance: words.2,
        user: owners.0.map(id),
        policy: owners.1.map(id),
        groups: owners.2.into_iter().map(id).collect(),
        last_seen,
        name: texts.0,
        hostname: texts.1,
        serial: texts.2,
    })
}

fn some_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => (some_id(), some_device()).prop_map(|(id, device)| Change::Upsert(id, device)),
        2 => some_id().prop_map(Change::Remove),
        1 => (0..IDS, 0..60u128).prop_map(|(first, count)| Change::RemoveMany(first..first + count)),
        3 => (some_id(), some_time()).prop_map(|(id, time)| Change::Touch(id, time)),
        3 => (some_id(), option::of(0..3u128), select(Compliance::ALL))
            .prop_map(|(device, policy, compliance)| Change::Judge(device, policy.map(id), compliance)),
    ]
}

/// Any values of a kind, mostly none.
fn some_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = Vec<T>> + use<T> {
    prop_oneof![3 => Just(Vec::new()), 1 => vec(select(values.to_vec()), 1..=3)]
}

fn some_question() -> impl Strategy<Value = Question> {
    let ids: Vec<u128> = (0..21).collect();
    let words = (some_of(Status::ALL), some_of(Platform::ALL), some_of(Compliance::ALL));
    let owners = (some_of(&ids), some_of(&ids[..4]), some_of(&ids[..5]), some_of(&ids), some_of(&ids));
    let text = prop_oneof![1 => Just(String::new()), 2 => some_text(4)];
    let sort = (select(vec![SortKey::CreatedAt, SortKey::LastSeen, SortKey::DeviceName]), any::<bool>());
    let place = (
        prop_oneof![4 => 0..100u64, 1 => Just(u64::MAX)],
        prop_oneof![4 => 0..20usize, 1 => Just(usize::MAX)],
        some_time(),
    );
    (words, owners, text, sort, place).prop_map(|(words, owners, text, sort, place)| Question {
        filter: Filter {
            statuses: words.0,
            platforms: words.1,
            compliances: words.2,
            users: owners.0.into_iter().map(id).collect(),
            policies: owners.1.into_iter().map(id).collect(),
            groups: owners.2.into_iter().map(id).collect(),
            members: owners.3.into_iter().map(id).collect(),
            without_users: owners.4.into_iter().map(id).collect(),
            text,
        },
        sort: Sort { key: sort.0, descending: sort.1 },
        offset: place.0,
        limit: place.1,
        time: place.2,
    })
}

fn apply(change: Change, fleet: &mut Fleet, model: &mut Model) {
    match change {
        Change::Upsert(id, device) => {
            fleet.upsert(&device.facts(id));
            model.upsert(id, device);
        }
        Change::Remove(id) => assert_eq!(fleet.remove(id), model.0.remove(&id).is_some()),
        Change::RemoveMany(ids) => {
            ids.rev().for_each(|n| assert_eq!(fleet.remove(id(n)), model.0.remove(&id(n)).is_some()))
        }
        Change::Touch(id, time) => {
            let known = model.0.get_mut(&id).map(|device| device.last_seen = device.last_seen.max(Some(time)));
            assert_eq!(fleet.touch(id, time), known.is_some());
        }
        Change::Judge(id, policy, compliance) => {
            let known = model.0.get_mut(&id).map(|device| (device.policy, device.compliance) = (policy, compliance));
            assert_eq!(fleet.judge(id, Judgement { policy, compliance }), known.is_some());
        }
    }
}

fn agree(question: &Question, fleet: &Fleet, model: &Model) {
    let Question { filter, sort, offset, limit, time } = question;
    let sorted = model.sorted(filter, *sort);
    let skip = usize::try_from(*offset).unwrap_or(usize::MAX);
    let page = sorted.iter().copied().skip(skip).take(*limit).collect();
    assert_eq!(fleet.page(filter, *sort, *offset, *limit), Page { total: sorted.len() as u64, ids: page });
    assert_eq!(fleet.count(filter), sorted.len() as u64);
    let by_creation = model.sorted(filter, Sort { key: SortKey::CreatedAt, descending: false });
    assert_eq!(fleet.ids(filter).collect::<Vec<_>>(), by_creation);
    let silent = model.silent_since(*time);
    assert_eq!(fleet.silent_since(*time, *limit), &silent[..silent.len().min(*limit)]);
}

/// What each device has in the index is there, and nothing else is: what is left behind would never be freed.
fn is_tidy(fleet: &Fleet, model: &Model) {
    assert_eq!(fleet.len(), model.0.len() as u64);
    assert!(fleet.ids.is_sorted());
    assert!(fleet.ids.len() <= 2 * model.0.len() + DEAD_MIN);
    for n in 0..IDS {
        let id = id(n);
        assert_eq!(fleet.contains(id), model.0.contains_key(&id));
        assert_eq!(fleet.last_seen(id), model.0.get(&id).and_then(|device| device.last_seen));
    }
    let recorded = Report::default().recorded();
    let unrecorded = model.0.iter().filter(|(_, device)| device.compliance != recorded).map(|(id, _)| *id);
    assert_eq!(fleet.unrecorded(usize::MAX), unrecorded.collect::<Vec<_>>());
    let mut fresh = Builder::default();
    model.0.iter().for_each(|(id, device)| fresh.add(&device.facts(*id)));
    let fresh = fresh.build();
    [&fleet.by_name, &fleet.by_seen, &fleet.online_by_seen].iter().for_each(|order| order.check());
    assert_eq!(fleet.by_name.iter().count(), model.0.len());
    assert_eq!(fleet.by_seen.iter().count(), model.0.len());
    assert_eq!(fleet.online_by_seen.iter().count(), fresh.online_by_seen.iter().count());
    assert_eq!(fleet.search.sizes(), fresh.search.sizes());
    assert_eq!(fleet.properties.sizes(), fresh.properties.sizes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// An administrator sees a wrong device, a wrong total or a page with a gap.
    #[test]
    fn lists_are_those_of_a_plain_list(
        start in vec((some_id(), some_device()), 0..150),
        rounds in vec((vec(some_change(), 0..50), vec(some_question(), 1..8)), 1..5),
    ) {
        let (mut model, mut builder) = (Model::default(), Builder::default());
        for (id, device) in start {
            builder.add(&device.facts(id));
            model.0.insert(id, device);
        }
        let mut fleet = builder.build();
        is_tidy(&fleet, &model);
        for (changes, questions) in rounds {
            changes.into_iter().for_each(|change| apply(change, &mut fleet, &mut model));
            questions.iter().for_each(|question| agree(question, &fleet, &model));
            is_tidy(&fleet, &model);
        }
    }

    /// A search misses a device that has the text, whatever part of whichever field is typed.
    #[test]
    fn every_part_of_every_field_is_found(devices in vec(some_device(), 1..40), at in any::<Index>(), cut in any::<(Index, Index)>()) {
        let mut fleet = Fleet::default();
        devices.iter().enumerate().for_each(|(n, device)| fleet.upsert(&device.facts(id(n as u128))));
        let n = at.index(devices.len());
        let device = &devices[n];
        for field in [Some(&device.name), device.hostname.as_ref(), device.serial.as_ref()].into_iter().flatten() {
            let letters: Vec<char> = field.chars().collect();
            let (a, b) = (cut.0.index(letters.len() + 1), cut.1.index(letters.len() + 1));
            let text = letters[a.min(b)..a.max(b)].iter().flat_map(|letter| letter.to_uppercase()).collect();
            let filter = Filter { text, ..Filter::default() };
            prop_assert!(fleet.ids(&filter).any(|found| found == id(n as u128)), "{:?}", filter.text);
        }
    }
}

fn device(name: &str) -> Device {
    Device {
        status: Status::Online,
        platform: Platform::Linux,
        compliance: Compliance::Unknown,
        user: None,
        policy: None,
        groups: Vec::new(),
        last_seen: None,
        name: name.into(),
        hostname: None,
        serial: None,
    }
}

/// A name in Greek capitals is not found by what it looks like in small letters.
#[test]
fn a_final_sigma_is_a_sigma() {
    let mut fleet = Fleet::default();
    fleet.upsert(&device("ΟΔΟΣ ΕΡΜΟΥ").facts(id(1)));
    fleet.upsert(&device("οδοσήμανση").facts(id(2)));
    for text in ["ΟΔΟΣ", "οδος", "οδοσ"] {
        assert_eq!(fleet.count(&Filter { text: text.into(), ..Filter::default() }), 2, "{text}");
    }
}

/// Two enrolments commit the other way round than their ids were made, and a list shows them out of order.
#[test]
fn ids_out_of_order_find_their_place() {
    let mut fleet = Fleet::default();
    for n in [10, 30, 20, 25, 5] {
        fleet.upsert(&device(&format!("device {n}")).facts(id(n)));
    }
    assert_eq!(fleet.ids(&Filter::default()).collect::<Vec<_>>(), [5, 10, 20, 25, 30].map(id));
    assert!(fleet.remove(id(20)) && !fleet.remove(id(20)));
    let page = fleet.page(&Filter::default(), Sort::default(), 1, 2);
    assert_eq!(page, Page { total: 4, ids: vec![id(25), id(10)] });
}

/// The dashboard's enrolments of a day have those of its neighbours, or miss the first or the last.
#[test]
fn enrolments_are_counted_by_the_time_in_the_id() {
    let mut fleet = Fleet::default();
    for (n, millis) in [99_999u128, 100_000, 150_000, 199_999, 200_000].into_iter().enumerate() {
        fleet.upsert(&device("a").facts(id(millis << 80 | n as u128)));
    }
    let count = |from, to| fleet.enrolled(&Filter::default(), &[(Time::from_unix(from), Time::from_unix(to))])[0];
    assert_eq!([count(100, 200), count(0, 100), count(200, 300), count(0, 201)], [3, 1, 1, 5]);
    assert_eq!([count(200, 100), count(-5, 0), count(300, i64::MAX)], [0, 0, 0]);
}
