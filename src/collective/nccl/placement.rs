//! Which rank is on which GPU, as all ranks must see it before NCCL is asked for anything.
//!
//! NCCL refuses two ranks on one GPU before 2.30, and since then wants to be told that it is meant
//! (NCCL's documentation of environment variables, `NCCL_MULTI_RANK_GPU_ENABLE`): the ranks' kernels
//! must all fit on the GPU at the same time, so each may have few blocks.

use super::error::Error;
use super::library::Version;
use crate::collective::Communicator;

/// What a rank tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The rank's number in errors.
    pub name: usize,
    /// The boot of its host: the same in all containers there.
    pub host: String,
    /// The GPU's address on the bus.
    pub bus_id: String,
    /// Its NCCL.
    pub version: Version,
}

impl Place {
    /// In [`PLACE_BYTES`] bytes.
    pub fn record(&self) -> Vec<u8> {
        let Self { name, host, bus_id, version: Version(a, b, c) } = self;
        let mut text = format!("{name}\n{host}\n{bus_id}\n{a}\n{b}\n{c}\n").into_bytes();
        text.resize(PLACE_BYTES, 0);
        text
    }

    /// What [`Self::record`] made.
    pub fn parse(record: &[u8]) -> Result<Self, Error> {
        let wrong =
            || Error::Ranks("a rank's place cannot be read; all run the same program?".into());
        let text = std::str::from_utf8(record).map_err(|_| wrong())?;
        let lines: Vec<&str> = text.split('\n').collect();
        let [name, host, bus_id, a, b, c, _] = lines[..] else { return Err(wrong()) };
        let number = |text: &str| text.parse().map_err(|_| wrong());
        Ok(Self {
            name: name.parse().map_err(|_| wrong())?,
            host: host.to_owned(),
            bus_id: bus_id.to_owned(),
            version: Version(number(a)?, number(b)?, number(c)?),
        })
    }
}

/// The places of all ranks; collective.
pub(super) fn gather(comm: &dyn Communicator, mine: &Place) -> Result<Vec<Place>, Error> {
    let mut all = vec![0; PLACE_BYTES * comm.size()];
    comm.all_gather(&mine.record(), &mut all).map_err(|error| Error::Ranks(error.to_string()))?;
    all.chunks_exact(PLACE_BYTES).map(Place::parse).collect()
}

/// The most blocks that NCCL may have on a GPU, where it must be said; or why these places do not
/// do. Every rank judges alike, if they have the same environment.
pub(super) fn judge(
    places: &[Place],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<u16>, Error> {
    let Some(first) = places.first() else { return Ok(None) };
    if let Some(other) = places.iter().find(|place| place.version != first.version) {
        let (rank, theirs) = (other.name, other.version);
        return Err(Error::Versions { rank, theirs, first: first.version });
    }
    let same = |a: &Place, b: &Place| (&a.host, &a.bus_id) == (&b.host, &b.bus_id);
    let together = |place: &Place| -> Vec<usize> {
        places.iter().filter(|other| same(place, other)).map(|other| other.name).collect()
    };
    let most = places.iter().map(|place| (place, together(place))).max_by_key(|(_, r)| r.len());
    let Some((Place { bus_id, version, .. }, ranks)) = most else { return Ok(None) };
    if ranks.len() == 1 {
        return Ok(None);
    }
    let bus_id = bus_id.clone();
    if *version < SHARES_GPUS {
        return Err(Error::SharedGpu { ranks, bus_id, have: *version });
    }
    let setting = |name: &str| environment(name).unwrap_or_default();
    if setting("NCCL_MULTI_RANK_GPU_ENABLE") != "1" {
        let setting = "NCCL_MULTI_RANK_GPU_ENABLE=1";
        return Err(Error::SharedGpuSetting { ranks, bus_id, setting });
    }
    if setting("NCCL_NVLS_ENABLE") == "1" {
        return Err(Error::SharedGpuSetting { ranks, bus_id, setting: "NCCL_NVLS_ENABLE=0" });
    }
    // The variable wins in NCCL too.
    Ok(setting("NCCL_MAX_CTAS").is_empty().then_some(FEW_CTAS))
}

/// Of one rank.
const PLACE_BYTES: usize = 192;
/// The first that can have several ranks on a GPU.
const SHARES_GPUS: Version = Version(2, 30, 0);
/// Of each rank on a shared GPU.
const FEW_CTAS: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: usize, host: &str, bus_id: &str, version: Version) -> Place {
        Place { name, host: host.into(), bus_id: bus_id.into(), version }
    }

    const NEW: Version = Version(2, 30, 3);

    #[test]
    fn places_travel_as_they_are() {
        let mine = place(12, "0d2e8bf0-7a44-4b5e-a9a6-5a1d9f6ec9a4", "0000:1b:00.0", NEW);
        assert_eq!(Place::parse(&mine.record()), Ok(mine));
        assert!(matches!(Place::parse(&[0; PLACE_BYTES]), Err(Error::Ranks(_))));
        assert!(matches!(Place::parse(b"1\na\nb\nx\n2\n3\n"), Err(Error::Ranks(_))));
    }

    #[test]
    fn a_gpu_each_needs_nothing() {
        // The same address on another host is another GPU.
        let old = Version(2, 18, 3);
        let apart = [place(0, "a", "1", old), place(1, "a", "2", old), place(2, "b", "1", old)];
        assert_eq!(judge(&apart, &|_| None), Ok(None));
        assert_eq!(judge(&[], &|_| None), Ok(None));
    }

    #[test]
    fn a_shared_gpu_wants_a_new_nccl_and_the_settings() {
        let shared = |version| [place(4, "a", "1", version), place(5, "a", "1", version)];
        let with = |set: &'static [(&str, &str)]| {
            move |name: &str| {
                set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            }
        };
        let on = with(&[("NCCL_MULTI_RANK_GPU_ENABLE", "1")]);
        let old = judge(&shared(Version(2, 29, 7)), &on).unwrap_err();
        assert!(matches!(&old, Error::SharedGpu { ranks, .. } if ranks == &[4, 5]), "{old}");
        let unset = judge(&shared(NEW), &|_| None).unwrap_err().to_string();
        assert!(
            unset.contains("ranks 4, 5 share GPU 1: start every rank with NCCL_MULTI"),
            "{unset}"
        );
        assert_eq!(judge(&shared(NEW), &on), Ok(Some(FEW_CTAS)));
        let nvls = with(&[("NCCL_MULTI_RANK_GPU_ENABLE", "1"), ("NCCL_NVLS_ENABLE", "1")]);
        let nvls = judge(&shared(NEW), &nvls).unwrap_err().to_string();
        assert!(nvls.contains("NCCL_NVLS_ENABLE=0"), "{nvls}");
        let own = with(&[("NCCL_MULTI_RANK_GPU_ENABLE", "1"), ("NCCL_MAX_CTAS", "1")]);
        assert_eq!(judge(&shared(NEW), &own), Ok(None));
    }

    #[test]
    fn other_versions_are_named() {
        let mixed = [place(0, "a", "1", NEW), place(1, "a", "2", Version(2, 32, 3))];
        let error = judge(&mixed, &|_| None).unwrap_err();
        assert!(
            error.to_string().contains("rank 1 has NCCL 2.32.3, the first has 2.30.3"),
            "{error}"
        );
    }
}
