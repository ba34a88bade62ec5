//! Hardware: the only place where a microcontroller is named. One board at a time is compiled, chosen by its
//! feature.

#[cfg(feature = "board")]
pub mod beginning;
#[cfg(feature = "embassy")]
pub mod embassy;
#[cfg(all(feature = "board", not(feature = "qemu-an386")))]
pub mod instruments;
#[cfg(feature = "board")]
pub mod life;
#[cfg(feature = "nrf52840")]
pub mod nrf52840;
#[cfg(feature = "qemu-an386")]
pub mod qemu_an386;
#[cfg(feature = "rp2350")]
pub mod rp2350;
#[cfg(all(feature = "board", not(feature = "qemu-an386")))]
pub mod shaft;
#[cfg(any(feature = "stm32g474", feature = "stm32h563"))]
pub mod stm32;
#[cfg(feature = "stm32f405")]
pub mod stm32f405;
#[cfg(feature = "stm32g474")]
pub mod stm32g474;
#[cfg(feature = "stm32h563")]
pub mod stm32h563;
#[cfg(feature = "whole")]
pub mod whole;
