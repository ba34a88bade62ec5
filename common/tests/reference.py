# Values of the features by SciPy, for the samples of a file: little-endian f32 at the rate given.
# usage: reference.py SAMPLES RATE_HZ; prints one "name value" a line.
import sys

import numpy as np
from scipy import signal, stats

x = np.fromfile(sys.argv[1], dtype="<f4").astype(np.float64)
rate = float(sys.argv[2])
GRAVITY = 9.80665


def tell(name, value):
    print(name, repr(float(value)))


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


about = x - x.mean()
tell("mean", x.mean())
tell("rms", x.std())
tell("peak", np.abs(about).max())
tell("peak_to_peak", np.ptp(x))
tell("crest_factor", np.abs(about).max() / x.std())
tell("kurtosis_excess", stats.kurtosis(x))
tell("skewness", stats.skew(x))

# Lines: 400 up to 1000 Hz, four segments that overlap by half.
segment = 2 * round(0.5 * rate * 0.4)
hz, power = signal.welch(
    x[: segment // 2 * 5],
    rate,
    window=signal.get_window("hann", segment, fftbins=True),
    noverlap=segment // 2,
    detrend="constant",
    scaling="spectrum",
)
lines = np.sqrt(power)
for index in (12, 24, 41, 173, 391):
    tell(f"line_{index}", lines[index])
in_band = (hz >= 20) & (hz <= 120)
tell("band_acceleration", np.sqrt(np.sum(lines[in_band] ** 2) / 1.5))
velocity = np.zeros_like(lines)
velocity[1:] = lines[1:] * 1e3 * GRAVITY / (2 * np.pi * hz[1:])
tell("band_velocity", np.sqrt(np.sum(velocity[in_band] ** 2) / 1.5))

# The overall: third-order Butterworth filters, a third of an octave outside of 10 to 1000 Hz, a trapezoidal
# integration with five taps that give back its loss, over what comes after 0.2 s.
THIRD = 10**0.1
sections = [
    signal.butter(3, 10 / THIRD, "high", fs=rate, output="sos"),
    signal.butter(3, 1000 * THIRD, "low", fs=rate, output="sos"),
]
# The integrator's pole cancels a zero of the high-pass: taken out of the one before it is put into the other.
z, p, k = signal.butter(3, 10 / THIRD, "high", fs=rate, output="zpk")
high = signal.zpk2sos(np.append(z[:2], -1.0), p, k / (2 * rate))
v = signal.sosfilt(high, about * 1e3 * GRAVITY)
near, far = -13 / 90, 11 / 720
v = signal.lfilter([far, near, 1 - 2 * (near + far), near, far], [1.0], v)
v = signal.sosfilt(sections[1], v)
settling = int(np.ceil(5 / (np.pi * 10 / THIRD) * rate))
tell("velocity_rms", rms(v[settling:]))
tell("velocity_peak", np.abs(v[settling:]).max())

# The trended envelope: the middle three tenths of what is usable, turned down to 0 Hz and low-passed. The
# numbers of taps and samples to an output follow from Kaiser's formula as the definition has it.
low, high_hz = 0.35 * rate / 2.56, 0.65 * rate / 2.56
half, middle = (high_hz - low) / 2 / rate, (high_hz + low) / 2 / rate
factor = max(int(1 / (3 * half)), 1)
stop = max(min(1 / factor - half, 0.9 * middle), 1.2 * half)
count = -(-(int((50 - 7.95) / (14.36 * (stop - half)) + 1) + 1) // 8) * 8
taps = signal.firwin(count, (half + stop) / 2, window=("kaiser", 4.5335), fs=1.0)
turned = x * np.exp(-2j * np.pi * middle * np.arange(len(x)))
envelope = 2 * np.abs(np.convolve(turned, taps, mode="valid"))[::factor]
tell("envelope_rms", envelope.std())
