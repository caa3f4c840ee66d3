//! Slots with generations, and small ordered sets of ids. Nothing here knows what it stores.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

use crate::base::{ClientId, TaskId, WorkerId};

/// An id that names a slot of an arena.
pub(super) trait SlotId: Copy {
    fn new(slot: u32, generation: u32) -> Self;
    fn slot(self) -> u32;
    fn generation(self) -> u32;
}

macro_rules! slot_id {
    ($($name:ident),*) => {$(
        impl SlotId for $name {
            fn new(slot: u32, generation: u32) -> Self {
                Self { slot, generation }
            }
            fn slot(self) -> u32 {
                self.slot
            }
            fn generation(self) -> u32 {
                self.generation
            }
        }
    )*};
}
slot_id!(TaskId, WorkerId, ClientId);

/// Values by id; a freed slot is used again under another generation, so a stale id finds nothing.
#[derive(Debug)]
pub(super) struct Arena<I, T> {
    slots: Vec<(u32, Option<Box<T>>)>,
    free: Vec<u32>,
    id: std::marker::PhantomData<I>,
}

impl<I: SlotId, T> Arena<I, T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), id: std::marker::PhantomData }
    }

    pub(super) fn insert(&mut self, value: T) -> I {
        let value = Some(Box::new(value));
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            entry.1 = value;
            return I::new(slot, entry.0);
        }
        let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 slots fit in memory");
        self.slots.push((0, value));
        I::new(slot, 0)
    }

    pub(super) fn remove(&mut self, id: I) -> Option<T> {
        let entry = self.slots.get_mut(id.slot() as usize).filter(|entry| entry.0 == id.generation())?;
        let value = entry.1.take()?;
        entry.0 = entry.0.wrapping_add(1);
        self.free.push(id.slot());
        Some(*value)
    }

    pub(super) fn get(&self, id: I) -> Option<&T> {
        self.slots.get(id.slot() as usize).filter(|entry| entry.0 == id.generation())?.1.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        self.slots.get_mut(id.slot() as usize).filter(|entry| entry.0 == id.generation())?.1.as_deref_mut()
    }

    pub(super) const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        (0u32..)
            .zip(&self.slots)
            .filter_map(|(slot, (generation, value))| Some((I::new(slot, *generation), value.as_deref()?)))
    }

    pub(super) fn ids(&self) -> Vec<I> {
        self.iter().map(|(id, _)| id).collect()
    }
}

impl<I: SlotId, T> Index<I> for Arena<I, T> {
    type Output = T;
    fn index(&self, id: I) -> &T {
        self.get(id).expect("ids held inside the scheduler name living slots")
    }
}

impl<I: SlotId, T> IndexMut<I> for Arena<I, T> {
    fn index_mut(&mut self, id: I) -> &mut T {
        self.get_mut(id).expect("ids held inside the scheduler name living slots")
    }
}

/// Above this many elements a set becomes a tree. Most tasks have a handful of neighbours, a few have 100,000.
const SMALL_MAX: usize = 16;

/// An ordered set of task ids, compact while small.
#[derive(Clone, Debug)]
pub(super) enum IdSet {
    Small(Vec<TaskId>),
    Big(BTreeSet<TaskId>),
}

impl Default for IdSet {
    fn default() -> Self {
        Self::Small(Vec::new())
    }
}

impl IdSet {
    pub(super) fn insert(&mut self, id: TaskId) -> bool {
        match self {
            Self::Small(ids) => {
                let Err(at) = ids.binary_search(&id) else { return false };
                if ids.len() == SMALL_MAX {
                    let mut big: BTreeSet<TaskId> = ids.iter().copied().collect();
                    big.insert(id);
                    *self = Self::Big(big);
                } else {
                    if ids.len() == ids.capacity() {
                        // Grow by one first, then by doubling: one neighbour is the commonest number.
                        ids.reserve_exact(ids.len().max(1));
                    }
                    ids.insert(at, id);
                }
                true
            }
            Self::Big(ids) => ids.insert(id),
        }
    }

    pub(super) fn remove(&mut self, id: TaskId) -> bool {
        match self {
            Self::Small(ids) => {
                let Ok(at) = ids.binary_search(&id) else { return false };
                ids.remove(at);
                if ids.is_empty() {
                    *ids = Vec::new();
                }
                true
            }
            Self::Big(ids) => {
                let found = ids.remove(&id);
                if ids.is_empty() {
                    *self = Self::default();
                }
                found
            }
        }
    }

    pub(super) fn contains(&self, id: TaskId) -> bool {
        match self {
            Self::Small(ids) => ids.binary_search(&id).is_ok(),
            Self::Big(ids) => ids.contains(&id),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Small(ids) => ids.len(),
            Self::Big(ids) => ids.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn iter(&self) -> IdIter<'_> {
        match self {
            Self::Small(ids) => IdIter::Small(ids.iter()),
            Self::Big(ids) => IdIter::Big(ids.iter()),
        }
    }
}

/// Ids in ascending order.
pub(super) enum IdIter<'a> {
    Small(std::slice::Iter<'a, TaskId>),
    Big(std::collections::btree_set::Iter<'a, TaskId>),
}

impl Iterator for IdIter<'_> {
    type Item = TaskId;
    fn next(&mut self) -> Option<TaskId> {
        match self {
            Self::Small(ids) => ids.next().copied(),
            Self::Big(ids) => ids.next().copied(),
        }
    }
}

impl FromIterator<TaskId> for IdSet {
    fn from_iter<It: IntoIterator<Item = TaskId>>(ids: It) -> Self {
        let mut set = Self::default();
        for id in ids {
            set.insert(id);
        }
        set
    }
}
