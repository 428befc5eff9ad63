//! Whether the CUDA driver and its compiler library answer, asked before burn does.
//!
//! cudarc panics in a worker thread where a library is missing; this asks the same libraries first, so that a machine
//! without a GPU gets a sentence.

use std::ffi::c_int;

use libloading::{Library, Symbol};

/// How many GPUs the driver sees, or why it cannot say.
pub(crate) fn device_count() -> Result<usize, String> {
    let driver = open(&["libcuda.so.1", "libcuda.so", "nvcuda.dll"])
        .ok_or("the NVIDIA driver (`libcuda.so.1`) is not installed; use `flex` to run on the CPU")?;
    let count = ask(&driver)?;
    if open(&NVRTC).is_none() {
        return Err(
            "the CUDA run-time compiler (`libnvrtc.so`) is not found; install the CUDA toolkit and put its \
                    libraries on the loader's path (`LD_LIBRARY_PATH`)"
                .to_owned(),
        );
    }
    Ok(count)
}

const NVRTC: [&str; 6] = [
    "libnvrtc.so",
    "libnvrtc.so.13",
    "libnvrtc.so.12",
    "libnvrtc.so.11",
    "nvrtc64_130_0.dll",
    "nvrtc64_120_0.dll",
];

#[allow(unsafe_code)] // loading a library runs its initialisers
fn open(names: &[&str]) -> Option<Library> {
    // SAFETY: these are the vendor's own libraries under their own names, which cudarc loads next in any case; their
    // initialisers have no preconditions.
    names.iter().find_map(|name| unsafe { Library::new(*name) }.ok())
}

#[allow(unsafe_code)] // foreign functions
fn ask(driver: &Library) -> Result<usize, String> {
    let missing = |error: libloading::Error| format!("the NVIDIA driver is not usable: {error}");
    // SAFETY: the signatures are those of the CUDA driver API, `CUresult cuInit(unsigned int)` and
    // `CUresult cuDeviceGetCount(int *)`; both may be called from any thread, and `count` outlives the call.
    unsafe {
        let init: Symbol<'_, unsafe extern "C" fn(u32) -> c_int> =
            driver.get(b"cuInit\0").map_err(missing)?;
        let get_count: Symbol<'_, unsafe extern "C" fn(*mut c_int) -> c_int> =
            driver.get(b"cuDeviceGetCount\0").map_err(missing)?;
        match init(0) {
            0 => {}
            100 => return Ok(0),
            code => {
                return Err(format!(
                    "the NVIDIA driver does not start (`cuInit` returned {code}); check it with `nvidia-smi`"
                ));
            }
        }
        let mut count: c_int = 0;
        match get_count(&mut count) {
            0 => Ok(usize::try_from(count).unwrap_or(0)),
            code => {
                Err(format!("the NVIDIA driver does not list its GPUs (`cuDeviceGetCount` returned {code})"))
            }
        }
    }
}
