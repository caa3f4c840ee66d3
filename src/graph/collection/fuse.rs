//! Which tasks become one: chains of tasks that have one input, and one user.
//!
//! Source: `dask/_task_spec.py`, `cull` and `fuse_linear_task_spec`.

/// The nodes that `wanted` need, in the order in which they are met from there: a node after at least one of its users.
///
/// `needs` names nodes past its own length for what lies outside.
pub(super) fn cull(needs: &[Vec<u32>], wanted: &[u32]) -> Vec<u32> {
    let mut stack: Vec<u32> = wanted.iter().rev().copied().collect();
    let mut seen = vec![false; needs.len()];
    let mut met = Vec::new();
    while let Some(node) = stack.pop() {
        let Some(seen) = seen.get_mut(node as usize) else { continue };
        if !std::mem::replace(seen, true) {
            met.push(node);
            stack.extend(needs.get(node as usize).into_iter().flatten().rev());
        }
    }
    met
}

/// The chains that linear fusion makes of the nodes in `order`, inputs first; a node by itself is a chain of one.
///
/// A node that was met from a user which is not fused with it stays alone, so the order decides what is fused.
pub(super) fn chains(needs: &[Vec<u32>], order: &[u32], is_wanted: &[bool]) -> Vec<Vec<u32>> {
    let mut users = vec![0u32; needs.len()];
    // The only user, where there is one.
    let mut user = vec![u32::MAX; needs.len()];
    let mut is_here = vec![false; needs.len()];
    for &node in order {
        if let Some(here) = is_here.get_mut(node as usize) {
            *here = true;
        }
        for &need in needs.get(node as usize).into_iter().flatten() {
            if let (Some(count), Some(user)) = (users.get_mut(need as usize), user.get_mut(need as usize)) {
                *count += 1;
                *user = node;
            }
        }
    }
    let mut seen = vec![false; needs.len()];
    let mut chains = Vec::new();
    let is = |flags: &[bool], node: u32| flags.get(node as usize).copied().unwrap_or(false);
    for &node in order {
        if see(&mut seen, node) {
            continue;
        }
        let mut chain = vec![node];
        let mut at = node;
        while let Some(&[need]) = needs.get(at as usize).map(Vec::as_slice) {
            if !is(&is_here, need) || see(&mut seen, need) {
                break;
            }
            if users.get(need as usize) != Some(&1) || is(is_wanted, need) {
                chains.push(vec![need]);
                break;
            }
            chain.push(need);
            at = need;
        }
        chain.reverse();
        let mut top = node;
        while users.get(top as usize) == Some(&1) && !is(is_wanted, top) {
            let Some(&user) = user.get(top as usize) else { break };
            if see(&mut seen, user) {
                break;
            }
            if needs.get(user as usize).map(Vec::len) != Some(1) {
                chains.push(vec![user]);
                break;
            }
            chain.push(user);
            top = user;
        }
        chains.push(chain);
    }
    chains
}

/// Marks a node, and says whether it was marked before.
fn see(seen: &mut [bool], node: u32) -> bool {
    seen.get_mut(node as usize).is_none_or(|seen| std::mem::replace(seen, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains_of(needs: &[&[u32]], wanted: &[u32]) -> Vec<Vec<u32>> {
        let needs: Vec<Vec<u32>> = needs.iter().map(|needs| needs.to_vec()).collect();
        let mut is_wanted = vec![false; needs.len()];
        wanted.iter().for_each(|&node| is_wanted[node as usize] = true);
        let mut chains = chains(&needs, &cull(&needs, wanted), &is_wanted);
        chains.sort();
        chains
    }

    #[test]
    fn a_chain_is_one_and_ends_where_it_branches() {
        // 0 <- 1 <- 2; 2 is needed by 3 and 4, both by 5.
        let needs: &[&[u32]] = &[&[], &[0], &[1], &[2], &[2], &[3, 4]];
        assert_eq!(chains_of(needs, &[5]), [vec![0, 1], vec![2], vec![3], vec![4], vec![5]]);
        assert_eq!(chains_of(&[&[], &[0], &[1]], &[2]), [vec![0, 1, 2]]);
    }

    #[test]
    fn what_is_wanted_or_outside_is_not_swallowed() {
        assert_eq!(chains_of(&[&[], &[0], &[1]], &[1, 2]), [vec![0, 1], vec![2]]);
        // Met from its user first, it is not fused with its input either: so Dask does, whose sets have no order.
        assert_eq!(chains_of(&[&[], &[0], &[1]], &[2, 1]), [vec![0], vec![1], vec![2]]);
        // 7 is no node of this graph.
        assert_eq!(chains_of(&[&[7], &[0]], &[1]), [vec![0, 1]]);
        assert_eq!(chains_of(&[&[], &[0], &[]], &[1]), [vec![0, 1]], "what nobody needs is left out");
    }

    #[test]
    fn circles_end() {
        assert_eq!(chains_of(&[&[1], &[0]], &[0]).concat().len(), 2);
        assert_eq!(chains_of(&[&[0]], &[0]).concat(), [0]);
    }
}
