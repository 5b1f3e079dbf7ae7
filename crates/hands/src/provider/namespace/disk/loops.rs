//! Loop devices: a file as a block device, which lets go of the file by itself when nobody uses it any more.
#![expect(
    unsafe_code,
    reason = "the kernel's interface of loop devices is made of ioctls, which have no safe wrapper"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

// From <linux/loop.h>.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// How often another process may be faster with the free device.
const TRIES: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const NO_INFO: Info = Info {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// A device that shows a file. It stays bound as long as this or a mount of it is open.
pub(super) struct Loop {
    number: u32,
    _device: File,
}

impl Loop {
    /// Its number.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Where it is among the devices.
    pub(super) fn path(&self) -> PathBuf {
        path(self.number)
    }

    /// Binds the file to a device that is free; more are made as they are needed.
    pub(super) fn bind(file: &File) -> io::Result<Self> {
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/loop-control")?;
        for _ in 0..TRIES {
            // SAFETY: the call takes no argument and touches no memory.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            let number = u32::try_from(number).map_err(|_| io::Error::last_os_error())?;
            let device = open(number)?;
            let config = Config {
                fd: file.as_raw_fd().cast_unsigned(),
                block_size: super::BLOCK,
                info: Info {
                    flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
                    ..NO_INFO
                },
                reserved: [0; 8],
            };
            // SAFETY: the kernel reads a structure of this shape from the pointer, which outlives the call.
            let bound =
                unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
            if bound == 0 {
                return Ok(Self {
                    number,
                    _device: device,
                });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::ResourceBusy {
                return Err(error);
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// The device of this number, if it shows this very file.
    pub(super) fn find(number: u32, file: &File) -> io::Result<Option<Self>> {
        let device = match open(number) {
            Ok(device) => device,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut info = NO_INFO;
        // SAFETY: the kernel writes a structure of this shape to the pointer, which outlives the call.
        let told = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
        if told != 0 {
            let error = io::Error::last_os_error();
            // It shows nothing.
            return if error.raw_os_error() == Some(libc::ENXIO) {
                Ok(None)
            } else {
                Err(error)
            };
        }
        let meta = file.metadata()?;
        Ok(
            ((info.device, info.inode) == (meta.dev(), meta.ino())).then_some(Self {
                number,
                _device: device,
            }),
        )
    }
}

fn path(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

fn open(number: u32) -> io::Result<File> {
    let path = path(number);
    let device = OpenOptions::new().read(true).write(true).open(&path)?;
    if device.metadata()?.file_type().is_block_device() {
        Ok(device)
    } else {
        let problem = format!("{} is no block device", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }
}
