//! Hardware: the only place where a microcontroller is named. One board at a time is compiled, chosen by its
//! feature.

#[cfg(feature = "embassy")]
pub mod embassy;
#[cfg(feature = "board")]
pub mod life;
#[cfg(feature = "nrf52840")]
pub mod nrf52840;
#[cfg(feature = "qemu-an386")]
pub mod qemu_an386;
#[cfg(feature = "stm32f405")]
pub mod stm32f405;
#[cfg(feature = "stm32g474")]
pub mod stm32g474;
#[cfg(any(feature = "nrf52840", feature = "stm32g474"))]
pub mod whole;
