//! Which values leave the memory when it runs short. Pure.

/// How a value leaves the memory, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Eviction {
    /// Its bytes go: the executor has it as an object.
    DropCopy,
    /// Its bytes, all there is of it, are moved to the disk.
    SpillBytes,
    /// The executor serialises it to the disk.
    SpillObject,
}

/// A value that may leave the memory.
#[derive(Clone, Debug)]
pub struct Spillable<K> {
    /// Which one.
    pub key: K,
    /// What that frees. Unit: bytes.
    pub size_bytes: u64,
    /// When it was used last, by any clock.
    pub used: u64,
    /// How.
    pub how: Eviction,
}

/// Chooses values until `need` bytes are freed: second copies first, then those that were not used for longest. What goes
/// to the disk fits into `room`. Unit: bytes.
pub fn evictions<K>(mut from: Vec<Spillable<K>>, need: u64, mut room: u64) -> Vec<(K, Eviction)> {
    from.sort_by_key(|value| (value.how != Eviction::DropCopy, value.used));
    let (mut chosen, mut freed) = (Vec::new(), 0u64);
    for value in from {
        if freed >= need {
            break;
        }
        if value.how != Eviction::DropCopy {
            let Some(left) = room.checked_sub(value.size_bytes) else { continue };
            room = left;
        }
        freed = freed.saturating_add(value.size_bytes);
        chosen.push((value.key, value.how));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<Spillable<&'static str>> {
        [
            ("young", 10, 9, Eviction::SpillObject),
            ("old", 10, 1, Eviction::SpillObject),
            ("bytes", 10, 5, Eviction::SpillBytes),
            ("copy", 10, 8, Eviction::DropCopy),
        ]
        .map(|(key, size_bytes, used, how)| Spillable { key, size_bytes, used, how })
        .into()
    }

    fn chosen(need: u64, room: u64) -> Vec<&'static str> {
        evictions(values(), need, room).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn second_copies_go_first_and_then_what_was_used_longest_ago_until_it_is_enough() {
        assert_eq!(chosen(0, 100), Vec::<&str>::new());
        assert_eq!(chosen(1, 100), ["copy"]);
        assert_eq!(chosen(21, 100), ["copy", "old", "bytes"]);
        assert_eq!(chosen(1000, 100), ["copy", "old", "bytes", "young"]);
    }

    #[test]
    fn a_full_disk_leaves_copies_only_and_a_large_value_does_not_keep_small_ones_from_it() {
        assert_eq!(chosen(1000, 9), ["copy"]);
        let large = Spillable { key: "large", size_bytes: 50, used: 0, how: Eviction::SpillObject };
        let all = values().into_iter().chain([large]).collect();
        let keys: Vec<_> = evictions(all, 15, 20).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["copy", "old"]);
    }
}
