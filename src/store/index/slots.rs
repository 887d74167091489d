//! A set of slots that costs little when it holds few.

use std::borrow::Cow;

use roaring::RoaringBitmap;

/// Up to this many slots are kept as a sorted list. A bitmap costs about 150 bytes before its first bit, which a
/// fleet would pay for every user and every rare trigram. Low in tests, so that they cross it.
const FEW: usize = if cfg!(test) { 4 } else { 128 };

#[derive(Debug)]
pub(super) enum Slots {
    /// Ascending, without duplicates.
    Few(Vec<u32>),
    Many(Box<RoaringBitmap>),
}

impl Default for Slots {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Slots {
    pub fn insert(&mut self, slot: u32) {
        match self {
            Self::Many(bitmap) => {
                bitmap.insert(slot);
            }
            Self::Few(list) => {
                let Err(at) = position(list, slot) else { return };
                if list.len() == FEW {
                    let mut bitmap: RoaringBitmap = list.iter().copied().collect();
                    bitmap.insert(slot);
                    *self = Self::Many(Box::new(bitmap));
                    return;
                }
                if list.len() == list.capacity() {
                    // Doubling would waste more than the slots themselves take.
                    list.reserve_exact(list.len() / 4 + 1);
                }
                list.insert(at, slot);
            }
        }
    }

    pub fn remove(&mut self, slot: u32) {
        match self {
            Self::Many(bitmap) => {
                bitmap.remove(slot);
                // Half of the limit, so that a set at the limit does not change its form with every change.
                if bitmap.len() <= FEW as u64 / 2 {
                    *self = Self::Few(bitmap.iter().collect());
                }
            }
            Self::Few(list) => {
                if let Ok(at) = position(list, slot) {
                    list.remove(at);
                }
            }
        }
    }

    pub fn contains(&self, slot: u32) -> bool {
        match self {
            Self::Few(list) => list.binary_search(&slot).is_ok(),
            Self::Many(bitmap) => bitmap.contains(slot),
        }
    }

    pub fn len(&self) -> u64 {
        match self {
            Self::Few(list) => list.len() as u64,
            Self::Many(bitmap) => bitmap.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bitmap(&self) -> Cow<'_, RoaringBitmap> {
        match self {
            Self::Few(list) => Cow::Owned(list.iter().copied().collect()),
            Self::Many(bitmap) => Cow::Borrowed(bitmap),
        }
    }
}

/// Slots mostly come in ascending order, so the end is tried first.
fn position(list: &[u32], slot: u32) -> Result<usize, usize> {
    if list.last().is_none_or(|&last| last < slot) { Err(list.len()) } else { list.binary_search(&slot) }
}

/// The union; borrowed when it is one large set.
pub(super) fn union<'a>(sets: impl IntoIterator<Item = &'a Slots>) -> Cow<'a, RoaringBitmap> {
    let mut sets = sets.into_iter();
    let mut all = sets.next().map_or_else(|| Cow::Owned(RoaringBitmap::new()), Slots::bitmap);
    for set in sets {
        match set {
            Slots::Few(list) => all.to_mut().extend(list),
            Slots::Many(bitmap) => *all.to_mut() |= &**bitmap,
        }
    }
    all
}
