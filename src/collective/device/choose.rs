//! Whether the ranks' devices exchange among themselves, or through host memory.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeviceCommunicator, device_group};
use crate::backend::cuda::Cuda;
use crate::collective::{Communicator, Error, agreed, nccl};
use crate::ops::Kernels;

/// How ranks whose tensors are on devices exchange them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceWish {
    /// By NCCL where all ranks have it and a GPU, else through host memory.
    #[default]
    Auto,
    /// By NCCL, or not at all.
    Nccl,
    /// Through host memory.
    Host,
}

/// How the ranks exchange tensors of their devices.
#[derive(Clone, Debug, Default)]
pub struct DeviceRanks {
    /// Collectives in device memory; none where tensors go through host memory, or live there.
    pub group: Option<Arc<dyn DeviceCommunicator>>,
    /// In words, where there is something to say.
    pub words: Option<String>,
}

/// Collectives in the memory of the ranks' devices, if `wish` and what is there make them possible.
/// Collective: all ranks get them, or none. `name` is this rank's number in errors.
pub fn device_ranks(
    comm: &dyn Communicator,
    kernels: &dyn Kernels,
    wish: DeviceWish,
    name: usize,
) -> Result<DeviceRanks, Error> {
    if comm.size() == 1 {
        return Ok(DeviceRanks::default());
    }
    let cuda = kernels.device().and_then(|device| device.downcast_ref::<Cuda>());
    let told = match (cuda, wish) {
        (_, DeviceWish::Host) => Some("as parallel.device_link wants".to_owned()),
        (None, _) => Some(format!("rank {name} computes on {}", kernels.describe())),
        _ => None,
    };
    let why = match (agreed::first_told(comm, told)?, cuda) {
        (None, Some(cuda)) => match nccl::link(comm, cuda.door(), name) {
            Ok(link) => {
                let group = device_group(comm, cuda, link, name)?;
                let words = format!("{} from device to device", group.describe());
                return Ok(DeviceRanks { group: Some(group), words: Some(words) });
            }
            Err(error) => error.to_string(),
        },
        (why, _) => why.unwrap_or_default(),
    };
    if wish == DeviceWish::Nccl {
        let what = format!("parallel.device_link = \"nccl\" cannot be: {why}");
        return Err(Error::Group { what });
    }
    let words = cuda.map(|_| format!("through host memory ({why})"));
    Ok(DeviceRanks { group: None, words })
}
