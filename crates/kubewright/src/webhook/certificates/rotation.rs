//! When certificates are made, trusted, shown and dropped, as a pure decision: what is there and the time flow in, what
//! is to be there instead flows out. Nothing is read, written or waited for here.
//!
//! An authority is replaced in four steps, so that at every moment whoever still trusts what was published a while ago
//! (an API server that has not seen the newest bundle) trusts what any replica shows (one that has not seen the newest
//! certificate):
//!
//! 1. *Stable*: one authority, which signed the serving certificate.
//! 2. *Introducing*: a second authority is in the bundle. Nobody shows anything of it yet.
//! 3. *Trusted*: the bundle was seen everywhere that it has to be. Readers get the overlap to take it in.
//! 4. *Retiring*: the serving certificate is the new authority's. Replicas get the overlap to take it in; then the old
//!    authority leaves the bundle.
//!
//! A serving certificate that only grows old is replaced in one step: the same authority vouches for both.

use std::time::{Duration, SystemTime};

use kubewright_pki::{Authority, Bundle, Identity, PkiError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long certificates live, and how slow their readers may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// An authority; replaced after two thirds of it. One year by default.
    pub authority: Duration,
    /// A serving certificate; replaced after two thirds of it. 90 days by default.
    pub serving: Duration,
    /// How long it may take until every API server has seen a bundle, and every replica a certificate. 10 minutes by
    /// default.
    pub overlap: Duration,
}

impl Default for Lives {
    fn default() -> Lives {
        Lives { authority: 365 * DAY, serving: 90 * DAY, overlap: Duration::from_secs(600) }
    }
}

/// How far the replacement of an authority has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Stable,
    Introducing,
    /// Since the new authority was seen to be trusted.
    Trusted(SystemTime),
    /// Since the new authority's certificate is the one to show.
    Retiring(SystemTime),
}

/// What replicas share: whom clients should trust, who signs next, and what servers show.
#[derive(Debug)]
pub(crate) struct Material {
    /// Whom clients should trust, oldest first.
    pub trusted: Bundle,
    /// The newest authority.
    pub signer: Authority,
    /// What servers show.
    pub serving: Identity,
    pub phase: Phase,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Nothing before this time.
    Keep(SystemTime),
    /// Write this, if what was judged is still there.
    Write(Box<Material>),
}

/// How soon to look again where something outside is waited for.
const SOON: Duration = Duration::from_secs(5);

/// Judges what is there. `published` says whether everybody who has to trust the bundle was given it, as just seen.
///
/// # Errors
/// When a certificate can't be made.
pub(crate) fn decide(
    found: Option<Material>,
    names: &[String],
    lives: &Lives,
    published: bool,
    now: SystemTime,
) -> Result<Decision, PkiError> {
    let Some(found) = found else { return fresh(Bundle::default(), names, lives, now) };
    if found.signer.not_after() <= now {
        // Too late for an overlap. Whoever is still trusted stays so.
        return fresh(found.trusted, names, lives, now);
    }
    let usable = match (names.first(), found.serving.dns_names()) {
        (Some(name), Ok(served)) => {
            served == names && found.trusted.vouches_for(&found.serving, name, now).is_ok()
        }
        _ => false,
    };
    if !usable {
        // What is shown now is refused by everybody: there is nothing to lose.
        let phase = match found.phase {
            Phase::Introducing | Phase::Trusted(_) => Phase::Retiring(now),
            phase => phase,
        };
        return reissue(found, phase, names, lives, now);
    }
    match found.phase {
        Phase::Stable => {
            let due = found.signer.renew_at();
            if now >= due {
                let signer = authority(lives, now)?;
                let mut trusted = found.trusted;
                trusted.add(signer.certificate().clone());
                return Ok(Decision::write(Material { trusted, signer, phase: Phase::Introducing, ..found }));
            }
            if now >= found.serving.renew_at() {
                return reissue(found, Phase::Stable, names, lives, now);
            }
            Ok(Decision::Keep(due.min(found.serving.renew_at())))
        }
        Phase::Introducing if published => {
            Ok(Decision::write(Material { phase: Phase::Trusted(now), ..found }))
        }
        Phase::Introducing => Ok(Decision::Keep(now + SOON)),
        // A clock that was set back must not wait for its old time.
        Phase::Trusted(since) | Phase::Retiring(since) if now < since.min(now) + lives.overlap => {
            Ok(Decision::Keep(since.min(now) + lives.overlap))
        }
        Phase::Trusted(_) => reissue(found, Phase::Retiring(now), names, lives, now),
        Phase::Retiring(_) => {
            Ok(Decision::write(Material { trusted: found.signer.bundle(), phase: Phase::Stable, ..found }))
        }
    }
}

impl Decision {
    fn write(material: Material) -> Decision {
        Decision::Write(Box::new(material))
    }
}

fn authority(lives: &Lives, now: SystemTime) -> Result<Authority, PkiError> {
    Ok(Authority::lasting("kubewright webhooks", lives.authority, now)?.with_leaf_life(lives.serving))
}

fn fresh(
    mut trusted: Bundle,
    names: &[String],
    lives: &Lives,
    now: SystemTime,
) -> Result<Decision, PkiError> {
    let signer = authority(lives, now)?;
    trusted.prune(now)?;
    trusted.add(signer.certificate().clone());
    let serving = signer.server(names, &[], now)?;
    let phase = if trusted.certificates().len() > 1 { Phase::Retiring(now) } else { Phase::Stable };
    Ok(Decision::write(Material { trusted, signer, serving, phase }))
}

fn reissue(
    found: Material,
    phase: Phase,
    names: &[String],
    lives: &Lives,
    now: SystemTime,
) -> Result<Decision, PkiError> {
    let signer = found.signer.with_leaf_life(lives.serving);
    let serving = signer.server(names, &[], now)?;
    Ok(Decision::write(Material { signer, serving, phase, ..found }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "hooks.ns.svc";
    const LIVES: Lives = Lives {
        authority: Duration::from_secs(365 * 86_400),
        serving: Duration::from_secs(90 * 86_400),
        overlap: Duration::from_secs(600),
    };

    fn names() -> Vec<String> {
        vec![NAME.into()]
    }

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn copy(material: &Material) -> Material {
        let signer = Authority::from_pem(&material.signer.certificate_pem(), &material.signer.key_pem());
        Material {
            trusted: material.trusted.clone(),
            signer: signer.unwrap(),
            serving: material.serving.clone(),
            phase: material.phase,
        }
    }

    /// What is there after everything that is due at `now` was done.
    fn settle(mut found: Option<Material>, published: bool, now: SystemTime) -> (Material, SystemTime) {
        for _ in 0..10 {
            match decide(found.as_ref().map(copy), &names(), &LIVES, published, now).unwrap() {
                Decision::Write(next) => found = Some(*next),
                Decision::Keep(until) => return (found.expect("something is there"), until),
            }
        }
        panic!("it does not come to rest");
    }

    #[test]
    fn a_first_certificate_is_made_at_once_and_then_kept() {
        let (first, until) = settle(None, false, start());
        assert_eq!((first.phase, first.trusted.certificates().len()), (Phase::Stable, 1));
        first.trusted.vouches_for(&first.serving, NAME, start()).unwrap();
        assert_eq!(until, first.serving.renew_at());
        assert!(until > start() + 59 * DAY && until < start() + 61 * DAY);
    }

    #[test]
    fn a_serving_certificate_that_grows_old_is_replaced_by_the_same_authority() {
        let (first, until) = settle(None, true, start());
        let (second, _) = settle(Some(copy(&first)), true, until);
        assert_eq!(second.trusted, first.trusted);
        assert!(second.serving.not_after() > first.serving.not_after());
    }

    #[test]
    fn an_authority_is_replaced_step_by_step() {
        let (first, _) = settle(None, true, start());
        let due = first.signer.renew_at();
        let (first, _) = settle(Some(first), true, due - DAY);
        let (introducing, until) = settle(Some(copy(&first)), false, due);
        assert_eq!((introducing.phase, until), (Phase::Introducing, due + SOON));
        assert_eq!(introducing.trusted.certificates().len(), 2);
        assert_eq!(introducing.serving.certificate_pem(), first.serving.certificate_pem());

        let (trusted, until) = settle(Some(introducing), true, due);
        assert_eq!((trusted.phase, until), (Phase::Trusted(due), due + LIVES.overlap));
        let switched = due + LIVES.overlap;
        let (retiring, until) = settle(Some(trusted), true, switched);
        assert_eq!((retiring.phase, until), (Phase::Retiring(switched), switched + LIVES.overlap));
        assert_eq!(retiring.trusted.certificates().len(), 2);
        first.trusted.vouches_for(&retiring.serving, NAME, switched).unwrap_err();

        let (stable, _) = settle(Some(retiring), true, until);
        assert_eq!((stable.phase, &stable.trusted), (Phase::Stable, &stable.signer.bundle()));
        stable.trusted.vouches_for(&stable.serving, NAME, until).unwrap();
    }

    #[test]
    fn another_service_name_gets_another_certificate_of_the_same_authority() {
        let (first, _) = settle(None, true, start());
        let other = vec!["hooks.elsewhere.svc".to_owned()];
        let decided = decide(Some(copy(&first)), &other, &LIVES, true, start()).unwrap();
        let Decision::Write(next) = decided else { panic!("{decided:?}") };
        assert_eq!(next.serving.dns_names().unwrap(), other);
        assert_eq!(next.trusted, first.trusted);
    }

    #[test]
    fn after_a_long_sleep_everything_is_made_anew() {
        let (first, _) = settle(None, true, start());
        let late = first.signer.not_after() + DAY;
        let (next, _) = settle(Some(first), true, late);
        next.trusted.vouches_for(&next.serving, NAME, late).unwrap();
        assert_eq!((next.phase, next.trusted.certificates().len()), (Phase::Stable, 1));
    }

    #[test]
    fn a_clock_that_was_set_back_stops_nothing() {
        let (first, _) = settle(None, true, start());
        let due = first.signer.renew_at();
        let (first, _) = settle(Some(first), true, due - DAY);
        let (trusted, _) = settle(Some(first), true, due);
        let back = due - 30 * DAY;
        let (_, until) = settle(Some(trusted), true, back);
        assert!(until <= back + LIVES.overlap);
    }

    /// A state as it was written, and when.
    struct Written {
        at: SystemTime,
        /// Whether it is known to have been given to clients too.
        published: bool,
        trusted: Bundle,
        serving: Identity,
    }

    fn written(material: &Material, at: SystemTime) -> Written {
        Written {
            at,
            published: material.phase != Phase::Introducing,
            trusted: material.trusted.clone(),
            serving: material.serving.clone(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Several rotations, with replicas and API servers that each look at states up to the overlap old.
        #[test]
        fn whoever_is_late_by_less_than_the_overlap_is_never_refused(
            steps in prop::collection::vec((1..86_400u64, any::<bool>(), 0..600u64, 0..600u64), 250..300),
        ) {
            let lives = Lives { authority: 30 * DAY, serving: 8 * DAY, ..LIVES };
            let mut now = start();
            let step = |found: Option<&Material>, published, now| decide(found.map(copy), &names(), &lives, published, now).unwrap();
            let Decision::Write(first) = step(None, false, now) else { panic!("nothing is made") };
            let mut current = *first;
            let mut history = vec![written(&current, now)];
            let (mut shown, mut believed, mut rotations) = (0, 0, 0);
            for (pause, published, late_replica, late_client) in steps {
                let pause = if current.phase == Phase::Stable { pause } else { pause % 900 };
                now += Duration::from_secs(pause);
                if let Decision::Write(next) = step(Some(&current), published, now) {
                    rotations += u32::from(current.phase != Phase::Stable && next.phase == Phase::Stable);
                    current = *next;
                    history.push(written(&current, now));
                }
                // What was written longer ago than a reader is late has been seen, and nobody goes back.
                let seen = |late, of_all: bool| {
                    let seen = |w: &Written| w.at + Duration::from_secs(late) <= now && (of_all || w.published);
                    history.iter().rposition(seen).unwrap_or(0)
                };
                shown = seen(late_replica, true).max(shown);
                believed = seen(late_client, false).max(believed);
                let judged = history[believed].trusted.vouches_for(&history[shown].serving, NAME, now);
                prop_assert!(judged.is_ok(), "{judged:?} in {:?}", current.phase);
            }
            prop_assert!(rotations >= 2, "{rotations} rotations");
        }
    }
}
