//! What outlives a reset: the boot counter and the settings, in flash or EEPROM.
//!
//! Kept by `sequential-storage`: items are appended, and a write that a power cut breaks off leaves the
//! item before it. At its bound (all pages full of live items) a store refuses with an error; there are two
//! items, so that needs a part smaller than they are.

use crate::settings::{IMAGE_MAX, Image};
use core::ops::Range;
use embedded_storage_async::nor_flash::NorFlash;
use sequential_storage::Error;
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapConfigError, MapStorage};

const BOOT_COUNTER: u8 = 1;
const SETTINGS: u8 = 2;

/// An item with its key, rounded up to the longest word of any flash.
const BUFFER_BYTES: usize = (1 + IMAGE_MAX).next_multiple_of(32);

/// The store in a stretch of `F`.
pub struct Store<F: NorFlash> {
    map: MapStorage<u8, F, Cache<Uncached, Uncached, Uncached, u8>>,
}

impl<F: NorFlash> Store<F> {
    /// The store in `place`, whole pages of `flash`, at least two.
    pub fn new(flash: F, place: Range<u32>) -> Result<Self, MapConfigError> {
        Ok(Self {
            map: MapStorage::new(flash, MapConfig::try_new(place)?, Cache::new_uncached()),
        })
    }

    /// Counts this boot, durably: the number is given to no other. A store that cannot be read is erased
    /// first and counts from 1: the boot's entropy alone tells it from an earlier one then.
    pub async fn next_boot(&mut self) -> Result<u32, Error<F::Error>> {
        let mut buffer = [0; BUFFER_BYTES];
        let last = match self.map.fetch_item::<u32>(&mut buffer, &BOOT_COUNTER).await {
            Ok(last) => last.unwrap_or(0),
            Err(error @ Error::Storage { .. }) => return Err(error),
            Err(_) => {
                self.map.erase_all().await?;
                0
            }
        };
        let counter = last.saturating_add(1);
        self.map.store_item(&mut buffer, &BOOT_COUNTER, &counter).await?;
        // A memory that takes nothing, and does not say so, would give the number again.
        match self.map.fetch_item::<u32>(&mut buffer, &BOOT_COUNTER).await? {
            Some(kept) if kept == counter => Ok(counter),
            _ => Err(Error::Corrupted {}),
        }
    }

    /// The image of settings stored last, if any ever was.
    pub async fn settings(&mut self) -> Result<Option<Image>, Error<F::Error>> {
        let mut buffer = [0; BUFFER_BYTES];
        let image = self.map.fetch_item::<&[u8]>(&mut buffer, &SETTINGS).await?;
        // Longer than any image is none: its checksum would not match either.
        Ok(image.and_then(|image| Image::from_slice(image).ok()))
    }

    /// Keeps an image in place of the one before: all of it or nothing.
    pub async fn keep_settings(&mut self, image: &Image) -> Result<(), Error<F::Error>> {
        let mut buffer = [0; BUFFER_BYTES];
        self.map
            .store_item(&mut buffer, &SETTINGS, &image.as_slice())
            .await
    }

    /// The flash, when the store is no longer needed.
    pub fn release(self) -> F {
        self.map.destroy().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Kept, to_image};
    use crate::test_flash::{Flash, block_on};
    use trunnion_common::frame::{Calibration, ChannelPlan, Settings};

    const PLACE: Range<u32> = 0..4 * Flash::PAGE as u32;

    fn image(command: u32) -> Image {
        let calibration = |channel| Calibration {
            gain_ppm: 1_000_000 + 1_000 * command + channel,
            offset_milli: -400,
        };
        let plans = [ChannelPlan::Features { window: 1_024 }; 16];
        to_image(&Kept {
            settings: Settings {
                command,
                plans: plans.into_iter().collect(),
            },
            calibrations: (0..16).map(calibration).collect(),
        })
    }

    fn store(flash: &mut Flash) -> Store<&mut Flash> {
        Store::new(flash, PLACE).unwrap()
    }

    #[test]
    fn boots_are_counted_and_settings_kept_over_many_lives() {
        let mut flash = Flash::new(PLACE.end as usize);
        for life in 1..=200 {
            let mut store = store(&mut flash);
            assert_eq!(block_on(store.next_boot()), Ok(life));
            let kept = (life > 1).then(|| image(life - 1));
            assert_eq!(block_on(store.settings()), Ok(kept));
            block_on(store.keep_settings(&image(life))).unwrap();
        }
    }

    #[test]
    fn a_flash_that_takes_nothing_gives_no_boot_number() {
        let mut flash = Flash::new(PLACE.end as usize);
        assert_eq!(block_on(store(&mut flash).next_boot()), Ok(1));
        flash.wear_out();
        for _ in 0..2 {
            let counted = block_on(store(&mut flash).next_boot());
            assert!(matches!(counted, Err(Error::Corrupted { .. })), "{counted:?}");
        }
    }

    #[test]
    fn a_power_cut_at_any_byte_leaves_the_old_settings_or_the_new_and_no_boot_number_twice() {
        // One after the other fills the pages, so that some cuts fall into the moving of items to the next.
        let mut prepared = Flash::new(PLACE.end as usize);
        let mut longest = 0;
        for life in 1..=60 {
            let (old, new) = (image(life), image(life + 1));
            let mut lived = store(&mut prepared);
            block_on(lived.next_boot()).unwrap();
            block_on(lived.keep_settings(&old)).unwrap();
            let mut complete = prepared.clone();
            complete.written = 0;
            block_on(store(&mut complete).keep_settings(&new)).unwrap();
            block_on(store(&mut complete).next_boot()).unwrap();
            longest = longest.max(complete.written);
            for cut in 0..complete.written {
                let mut flash = prepared.clone();
                flash.power_until(cut);
                let stored = block_on(store(&mut flash).keep_settings(&new));
                let counted = block_on(store(&mut flash).next_boot());
                flash.power_on();
                let mut after = store(&mut flash);
                let found = block_on(after.settings()).unwrap();
                let is_kept =
                    found.as_ref() == Some(&new) || (stored.is_err() && found.as_ref() == Some(&old));
                assert!(is_kept, "life {life}, cut at {cut}: {found:?}");
                let boot = block_on(after.next_boot()).unwrap();
                let is_new = boot > life && Ok(boot) != counted;
                assert!(is_new, "life {life}, cut at {cut}: {boot}");
            }
        }
        assert!(
            longest > Flash::PAGE,
            "no cut fell into the moving of a page: {longest}"
        );
    }
}
