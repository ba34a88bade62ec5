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

# The envelope that a bearing is searched in: lines 1 to 2000 with their phases and the magnitude 1, the squared
# magnitude of the analytic signal, and its spectrum under the Hann window with as many zeros behind.
white = np.fft.rfft(about)
white /= np.abs(white)
white[0] = 0.0
white[2001:] = 0.0
# Unscaled transforms there and back leave the number of samples.
squares = np.abs(signal.hilbert(np.fft.irfft(white, len(x)))) ** 2 * len(x) ** 2
weights = signal.get_window("hann", len(x), fftbins=True)
magnitudes = np.abs(np.fft.rfft((squares - squares.mean()) * weights, 2 * len(x)))
for line in (214, 215, 429, 644):
    tell(f"envelope_line_{line}", magnitudes[line])

# Octaves: what a Butterworth half-band filter lets through above a quarter of the rate; what is below goes on at half
# the rate. The last sample of each pair is kept; before the first, the signal stood at it.
rest = x - x[0]
for number in (4, 3, 2, 1):
    above = signal.sosfilt(signal.butter(5, 0.5, "high", output="sos"), rest)[1::2]
    rest = signal.sosfilt(signal.butter(5, 0.5, "low", output="sos"), rest)[1::2]
    tell(f"octave_{number}", rms(above))

# Hotelling's T-squared, and what is left without the principal components that explain 0.9 of the variance.
rows = x.reshape(-1, 4)
distances = (rows - rows.mean(axis=0)) / rows.std(axis=0)
correlation = np.corrcoef(rows.T)
values, vectors = np.linalg.eigh(correlation)
values, vectors = values[::-1], vectors[:, ::-1]
kept = np.searchsorted(np.cumsum(values), 0.9 * values.sum()) + 1
for index in (0, 77, 640):
    distance = distances[index]
    tell(f"t_squared_{index}", distance @ np.linalg.solve(correlation, distance))
    left = distance - vectors[:, :kept] @ (vectors[:, :kept].T @ distance)
    tell(f"q_{index}", left @ left)
