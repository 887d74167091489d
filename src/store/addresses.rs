//! Which addresses of an organization's pool are free, so that giving one out does not search a table.
//!
//! The writer's own note of the table [`ADDRESSES`]: read from it when an organization first needs an address, then
//! changed together with it. What a transaction that comes to nothing has changed here is taken back.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use roaring::RoaringBitmap;

use super::engine::{Direction, Read};
use super::tables::{ADDRESSES, KeyRange};
use crate::error::Error;
use crate::ids::OrganizationId;

#[derive(Default)]
pub(super) struct Addresses {
    pools: HashMap<OrganizationId, Pool>,
    /// Read in the transaction that is open: they show what it has written.
    fresh: HashSet<OrganizationId>,
    /// What the open transaction has changed, oldest first.
    changes: Vec<Change>,
}

struct Pool {
    first: u32,
    last: u32,
    free: RoaringBitmap,
    /// Where to look next.
    next: u32,
}

struct Change {
    organization: OrganizationId,
    address: u32,
    was_free: bool,
    next: u32,
}

impl Addresses {
    /// A free address between `first` and `last`; `None` when all are in use.
    ///
    /// They are given out in a circle, so that a freed address rests as long as it can before it is used again.
    pub fn free(
        &mut self,
        from: &impl Read,
        organization: OrganizationId,
        first: Ipv4Addr,
        last: Ipv4Addr,
    ) -> Result<Option<Ipv4Addr>, Error> {
        let (first, last) = (first.to_bits(), last.to_bits());
        let known = self.pools.get(&organization).filter(|pool| (pool.first, pool.last) == (first, last));
        if known.is_none() {
            self.pools.insert(organization, Pool::read(from, organization, first, last)?);
            self.fresh.insert(organization);
        }
        Ok(self.pools.get(&organization).and_then(Pool::pick).map(Into::into))
    }

    /// The address is in use from this transaction on.
    pub fn take(&mut self, organization: OrganizationId, address: Ipv4Addr) {
        self.set(organization, address.to_bits(), false);
    }

    pub fn give_back(&mut self, organization: OrganizationId, address: Ipv4Addr) {
        self.set(organization, address.to_bits(), true);
    }

    fn set(&mut self, organization: OrganizationId, address: u32, is_free: bool) {
        let Some(pool) = self.pools.get_mut(&organization) else { return };
        let next = pool.next;
        if is_free {
            pool.give_back(address);
        } else {
            pool.take(address);
        }
        self.changes.push(Change { organization, address, was_free: !is_free, next });
    }

    /// The open transaction is on disk.
    pub fn commit(&mut self) {
        self.fresh.clear();
        self.changes.clear();
    }

    /// The open transaction has come to nothing.
    pub fn abort(&mut self) {
        for Change { organization, address, was_free, next } in self.changes.drain(..).rev() {
            let Some(pool) = self.pools.get_mut(&organization) else { continue };
            if was_free {
                pool.give_back(address);
            } else {
                pool.free.remove(address);
            }
            pool.next = next;
        }
        for organization in self.fresh.drain() {
            self.pools.remove(&organization);
        }
    }
}

impl Pool {
    fn read(from: &impl Read, organization: OrganizationId, first: u32, last: u32) -> Result<Self, Error> {
        let mut pool = Self { first, last, free: RoaringBitmap::new(), next: first };
        pool.free.insert_range(first..=last);
        let range = KeyRange::between(&(organization, first), &(organization, last));
        // In order, so that the search goes on after the highest.
        ADDRESSES.scan(from, range, Direction::Ascending, |(_, used), _| {
            pool.take(used);
            ControlFlow::Continue(())
        })?;
        Ok(pool)
    }

    fn pick(&self) -> Option<u32> {
        let from = |start| self.free.range(start..=self.last).next();
        from(self.next).or_else(|| from(self.first))
    }

    fn take(&mut self, address: u32) {
        self.free.remove(address);
        self.next = if address < self.last { address + 1 } else { self.first };
    }

    fn give_back(&mut self, address: u32) {
        // An address of a pool that was configured earlier is not given out again.
        if (self.first..=self.last).contains(&address) {
            self.free.insert(address);
        }
    }
}
