"""The Radcliffe Camera in Oxford, drawn by ray tracing: the default picture of the spike-train matching task.

James Gibbs' building (1737-49) is modelled from convex solids and seen from Radcliffe Square through a shift lens, in
sunlight from the left: a rusticated sixteen-sided ground storey with pedimented arches, a drum of paired columns, the
balustrade with its vases, the buttressed upper drum, the ribbed dome and its lantern; All Souls on the left, Brasenose
and the spire of St Mary's on the right. Lengths are in metres, x to the right, y away from the viewer, z upwards, the
origin on the ground in the axis of the building. Points are arrays [n, 3]; angles are measured around the axis, 0
towards the viewer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EYE = np.array([0.0, -105.0, 7.0])
FRAME_BOTTOM, FRAME_TOP = -3.6, 49.8  # heights that the frame cuts from the vertical plane through the axis
SUN = np.array([-0.66, -0.60, 0.45]) / np.linalg.norm([-0.66, -0.60, 0.45])
REFLECTED = np.array([0.8, -0.6, 0.0])  # light from the houses opposite, which keeps the shadow side round
BEHIND = 15.0  # what stands farther away than this is hazy, and lit as if the Camera did not shade it
BAY = np.pi / 8  # the building has sixteen bays
SAMPLES = 3  # per pixel and direction

Surface = Callable[[np.ndarray], np.ndarray]  # points [n, 3] to reflectances [n]


def plain(reflectance: float) -> Surface:
    return lambda p: np.full(len(p), reflectance)


STONE, GREY_STONE, LEAD = plain(0.92), plain(0.6), plain(0.45)


# Solids


@dataclass(frozen=True)
class Solid:
    """A convex body: the points p with ``faces[:, :3] @ p <= faces[:, 3]`` and ``|(p - centre) * curvature| <= 1``.

    ``curvature`` holds the reciprocals of the semi-axes: (1/r, 1/r, 0) is an upright cylinder, zeros a polyhedron.
    """

    faces: np.ndarray  # [face, 4], outward unit normal and offset
    box: np.ndarray  # [2, 3], opposite corners of a box around the body
    surface: Surface
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    curvature: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def near(self, start: np.ndarray, way: np.ndarray) -> np.ndarray:
        """Numbers of the rays (``start`` and the unit vectors ``way``, [n or 1, 3]) whose lines pass through the
        sphere around the box: most rays miss most solids, and this is the cheap way to know."""
        to_centre = self.box.mean(0) - start
        along = np.vecdot(to_centre, way)
        return np.flatnonzero(
            np.vecdot(to_centre, to_centre) - along**2 < np.square(self.box[1] - self.box[0]).sum() / 4
        )

    def crossing(self, start: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the rays ``start + t way`` enter and leave: t_in [n], t_out [n] and the face of entry [n], -1 for the
        curved one. A ray that misses has t_in > t_out."""
        n = max(len(start), len(way))
        t_in, t_out, face = np.full(n, -np.inf), np.full(n, np.inf), np.full(n, -1)
        if any(self.curvature):
            a, b = (start - self.centre) * self.curvature, way * self.curvature
            aa, bb, ab = np.vecdot(a, a), np.vecdot(b, b), np.vecdot(a, b)
            square = ab * ab - bb * (aa - 1)
            root = np.sqrt(np.maximum(square, 0))
            t_in, t_out = (-ab - root) / bb, np.where(square > 0, (-ab + root) / bb, -np.inf)
        for k, (*normal, offset) in enumerate(self.faces):
            speed, distance = way @ normal, offset - start @ normal
            with np.errstate(divide="ignore", invalid="ignore"):
                t = distance / speed
            entered = (speed < 0) & (t > t_in)
            t_in, face = np.where(entered, t, t_in), np.where(entered, k, face)
            t_out = np.where((speed > 0) & (t < t_out), t, t_out)
            t_out = np.where((speed == 0) & (distance < 0), -np.inf, t_out)
        return t_in, t_out, face

    def normals(self, points: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Outward unit normals [n, 3] at points on the given faces."""
        curved = (points - self.centre) * np.square(self.curvature)
        curved /= np.maximum(np.linalg.norm(curved, axis=-1, keepdims=True), 1e-12)
        return np.where((face < 0)[:, None], curved, self.faces[face, :3])


def bounds(x: float, y: float, radius: float, bottom: float, top: float) -> np.ndarray:
    return np.array([[x - radius, y - radius, bottom], [x + radius, y + radius, top]])


def turned(
    radius: float,
    bottom: float,
    top: float,
    surface: Surface = STONE,
    at: tuple[float, float] = (0.0, 0.0),
    rise: float = np.inf,
) -> Solid:
    """An upright cylinder with its axis ``at`` (x, y); with a finite ``rise``, the part up to ``top`` of the
    half-ellipsoid of that height."""
    level = np.array([[0.0, 0.0, -1.0, -bottom], [0.0, 0.0, 1.0, top]])
    return Solid(level, bounds(*at, radius, bottom, top), surface, (*at, bottom), (1 / radius, 1 / radius, 1 / rise))


def block(
    at: tuple[float, float],
    width: float,
    depth: float,
    bottom: float,
    top: float,
    surface: Surface = STONE,
    angle: float = 0.0,
    gable: float = 0.0,
    hip: float = 0.0,
) -> Solid:
    """A box centred ``at`` (x, y), turned by ``angle`` about the vertical. From the middle of ``top`` a roof falls by
    ``gable`` metres per metre to the left and right, or by ``hip`` to all four sides."""
    across, inwards, up = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    faces = [(*-up, -bottom)]
    for axis, half, slope in ((across, width / 2, gable + hip), (inwards, depth / 2, hip)):
        for wall in (axis, -axis):
            roof = (up + slope * wall) / np.hypot(1, slope)
            faces += [(*wall, wall @ (*at, 0) + half), (*roof, roof @ (*at, top))]
    return Solid(np.array(faces), bounds(*at, np.hypot(width, depth) / 2, bottom, top), surface)


def polar(radius: float, angle: float) -> tuple[float, float]:
    """The (x, y) at ``radius`` from the axis of the building in direction ``angle``."""
    return radius * np.sin(angle), -radius * np.cos(angle)


# Surfaces


def bay(p: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of ``count`` equal sectors around the axis a point is in, and how far right of its middle, in metres."""
    angle, step = np.arctan2(p[:, 0], -p[:, 1]), 2 * np.pi / count
    k = np.rint(angle / step)
    return k.astype(int) % count, np.hypot(p[:, 0], p[:, 1]) * np.sin(angle - k * step)


def arch(s: np.ndarray, z: np.ndarray, half_width: float, bottom: float, spring: float) -> np.ndarray:
    """Whether (s, z) lies in a round-headed opening whose arch starts at height ``spring``."""
    return (np.abs(s) < half_width) & (z > bottom) & ((z < spring) | (np.hypot(s, z - spring) < half_width))


def rectangle(s: np.ndarray, z: np.ndarray, half_width: float, bottom: float, top: float) -> np.ndarray:
    return (np.abs(s) < half_width) & (z > bottom) & (z < top)


def rustication(p):
    _, s = bay(p, 16)
    course = np.floor(p[:, 2] / 1.1)
    joint = (p[:, 2] / 1.1 - course < 0.26) | (np.mod(s / 2.2 + 0.5 * course, 1) < 0.12)
    return np.where(joint, 0.25, 0.92)


def ground_storey(p):
    k, s = bay(p, 16)
    niche = arch(s, p[:, 2], 0.95, 2.2, 4.6) & (k % 2 == 1)
    return np.where(niche, np.clip(0.30 + 0.30 * s, 0.08, 1), rustication(p))


def portal(p):
    _, s = bay(p, 8)
    z = p[:, 2]
    tone = np.where(arch(s, z, 2.1, 0.0, 4.3), 0.95, rustication(p))
    tone = np.where(arch(s, z, 1.55, 0.0, 4.3), 0.05, tone)
    tone = np.where(z > 6.7, 0.97, tone)
    return np.where((z > 7.3) & (z < 8.7 - 0.45 * np.abs(s)), 0.35, tone)


def main_storey(p):
    k, s = bay(p, 16)
    z = p[:, 2]
    window = np.where(rectangle(s, z, 1.45, 12.9, 18.3), 0.98, 0.64)
    window = np.where(rectangle(s, z, 1.0, 13.3, 17.7), 0.04, window)
    window = np.where(rectangle(s, z, 0.85, 10.65, 12.15), 0.10, window)
    niche = np.where(arch(s, z, 0.8, 13.4, 16.4), np.clip(0.35 + 0.35 * s, 0.1, 1), 0.64)
    niche = np.where(rectangle(s, z, 0.65, 10.75, 12.05), 0.3, niche)
    return np.where(k % 2 == 0, window, niche)


def column(p):
    leaves = 0.62 + 0.25 * np.sin(9 * p[:, 0]) * np.sin(8 * p[:, 2])
    return np.where(p[:, 2] > 18.9, leaves, 0.97)


def modillions(p):
    _, s = bay(p, 96)
    return np.where(np.abs(s) < 0.22, 0.35, 0.95)


def balustrade(p):
    _, s = bay(p, 16)
    pedestal = np.abs(s) > 1.85
    rail = (p[:, 2] > 23.9) | (p[:, 2] < 23.0)
    return np.where(pedestal | rail | (np.mod(s / 0.85, 1) < 0.5), 0.95, 0.20)


def upper_drum(p):
    _, s = bay(p, 8)
    tone = np.where(rectangle(s, p[:, 2], 1.6, 25.4, 29.4), 0.97, 0.62)
    return np.where(arch(s, p[:, 2], 1.1, 25.4, 27.9), 0.05, tone)


def ribs(p):
    _, s = bay(p, 16)
    half_width = 0.040 * np.hypot(p[:, 0], p[:, 1]) + 0.14
    return np.where(np.abs(s) < half_width, 0.85, np.where((s > 0) & (s < 1.9 * half_width), 0.15, 0.44))


def lantern(p):
    _, s = bay(p, 8)
    return np.where(arch(s, p[:, 2], 0.42, 41.4, 43.4), 0.05, 0.9)


def gothic(p):
    s = np.mod(p[:, 0], 3.2) - 1.6
    return np.where(arch(s, np.mod(p[:, 2] - 1, 8), 0.75, 1.5, 5.0), 0.08, 0.58)


def lawn(p):
    distance = np.hypot(p[:, 0], p[:, 1])
    return np.where((distance > 18) & (distance < 27), 0.35, 1.15)


def sky(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Brightness of the sky, darker towards the top, with clouds."""
    cloud = (
        np.sin(0.16 * x + 0.10 * z + 3.0) + 0.6 * np.sin(0.31 * x - 0.42 * z + 0.3) + 0.4 * np.sin(0.23 * x + 0.73 * z)
    )
    return 0.985 - 0.17 * np.clip(z / 50, 0, 1) ** 1.3 * (1 - np.clip(0.5 + 0.6 * cloud, 0, 1))


# Buildings


def camera() -> list[Solid]:
    """The Radcliffe Camera, from the ground up; of what repeats around it, the half that the viewer can see."""
    sixteen_sides = np.array([[*polar(1, k * BAY), 0, 14.8] for k in range(16)])
    base = turned(16.0, 0.5, 8.0, ground_storey)
    solids = [
        turned(16.4, 0.0, 0.7),
        Solid(np.vstack([base.faces, sixteen_sides]), base.box, ground_storey),
        turned(15.6, 8.0, 8.6),
        turned(14.4, 8.5, 9.6),
        turned(12.5, 9.0, 20.2, main_storey),
        turned(13.9, 20.1, 21.7),
        turned(14.3, 21.7, 22.2, modillions),
        turned(15.0, 22.2, 22.8),
        turned(14.0, 22.7, 24.4, balustrade),
        turned(11.4, 22.7, 29.6, upper_drum),
        turned(12.2, 29.5, 30.2),
        turned(11.5, 30.1, 31.0),
        turned(11.1, 30.9, 41.2, ribs, rise=10.6),
        turned(2.6, 40.5, 41.2),
        turned(1.6, 41.0, 44.4, lantern),
        turned(2.1, 44.3, 44.8),
        turned(1.7, 44.8, 47.0, LEAD, rise=2.2),
        turned(0.6, 47.0, 47.9, LEAD, rise=0.9),
        turned(0.16, 47.0, 49.2, LEAD),
    ]
    for k in range(-4, 5):
        angle, pair = k * BAY, (k + 0.5) * BAY
        if k % 2 == 0:
            solids.append(block(polar(13.9, angle), 6.0, 4.0, 0.0, 9.3, portal, angle, gable=0.45))
        else:
            solids.append(block(polar(11.2, angle), 1.9, 3.4, 22.7, 28.2, STONE, angle))
            solids.append(block(polar(10.8, angle), 1.5, 2.4, 28.2, 29.6, STONE, angle))
        for at in (polar(13.3, pair - 0.07), polar(13.3, pair + 0.07)):
            solids.append(turned(0.80, 9.4, 10.1, STONE, at))
            solids.append(turned(0.58, 9.4, 20.2, column, at))
            solids.append(turned(0.78, 19.4, 20.2, column, at))
        solids.append(turned(0.4, 24.3, 25.2, STONE, polar(14.0, pair)))
        solids.append(turned(0.6, 25.1, 26.0, STONE, polar(14.0, pair), rise=0.9))
    return solids


def range_of_rooms(left: float, right: float, y: float, top: float) -> list[Solid]:
    """A Gothic wall with windows and battlements."""
    merlons = [block((x, y - 1.5), 1.2, 1, top, top + 1.2) for x in np.arange(left + 0.8, right, 2.4)]
    return [block(((left + right) / 2, y), right - left, 4, 0, top, gothic), *merlons]


def tower(x: float, y: float, width: float, bottom: float, top: float) -> list[Solid]:
    """A stage of a Gothic tower with a pinnacle on each corner."""
    corners = [(x + i * width / 2, y + j * width / 2) for i in (-1, 1) for j in (-1, 1)]
    pinnacles = [block(corner, 1.3, 1.3, bottom, top + 5.5, GREY_STONE, hip=7) for corner in corners]
    return [block((x, y), width, width, bottom, top, gothic), *pinnacles]


def neighbours() -> list[Solid]:
    all_souls = [
        *range_of_rooms(-60, -19, 30, 10.5),
        *(solid for x, y in ((-30.5, 36), (-21.5, 44)) for solid in tower(x, y, 5.5, 0, 20.5)),
        *(solid for x, y in ((-30.5, 36), (-21.5, 44)) for solid in tower(x, y, 4.3, 20.5, 31)),
    ]
    brasenose = [
        *range_of_rooms(19, 60, 26, 12),
        *(block((x, 26), 7, 6, 0, 17, gothic, gable=1.2) for x in (24, 34)),
    ]
    st_marys = [*tower(28, 60, 7, 0, 32), block((28, 60), 5.6, 5.6, 32, 62, GREY_STONE, hip=10.5)]
    return [*all_souls, *brasenose, *st_marys]


# The picture


def look(solids: list[Solid], way: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the rays from the eye along the unit vectors ``way`` meet first: the numbers of the rays that meet
    something [m], and the points [m, 3], normals [m, 3] and reflectances [m] there."""
    nearest, which, face = np.full(len(way), np.inf), np.full(len(way), -1), np.full(len(way), -1)
    for i, solid in enumerate(solids):
        rays = solid.near(EYE[None], way)
        t_in, t_out, entered = solid.crossing(EYE[None], way[rays])
        seen = (t_in > 0) & (t_in < t_out) & (t_in < nearest[rays])
        nearest[rays[seen]], which[rays[seen]], face[rays[seen]] = t_in[seen], i, entered[seen]
    met = np.flatnonzero(which >= 0)
    points = EYE + nearest[met, None] * way[met]
    normals, reflectance = np.empty_like(points), np.empty(len(points))
    for i, solid in enumerate(solids):
        mine = which[met] == i
        normals[mine] = solid.normals(points[mine], face[met][mine])
        reflectance[mine] = solid.surface(points[mine])
    return met, points, normals, reflectance


def sunlight(solids: list[Solid], points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Cosine of the angle at which the sun falls on each point [m], 0 in the shade."""
    light = np.maximum(normals @ SUN, 0)
    start = points + 1e-6 * normals  # off the surface, which must not shade itself
    for solid in solids:
        rays = solid.near(start, SUN[None])
        rays = rays[(light[rays] > 0) & (points[rays, 1] < BEHIND)]
        t_in, t_out, _ = solid.crossing(start[rays], SUN[None])
        light[rays[(t_in < t_out) & (t_out > 0)]] = 0
    return light


def draw_radcliffe(rows: int = 200, columns: int = 198) -> np.ndarray:
    """The Radcliffe Camera in grey, float64 [rows, columns], multiples of 1/255 from 0 (black) to 1 (white).

    The height of the picture is fixed in metres, so another number of rows is another resolution of the same view.
    The same on every call; takes seconds.
    """
    step = (FRAME_TOP - FRAME_BOTTOM) / (rows * SAMPLES)
    x = (np.arange(columns * SAMPLES) + 0.5 - columns * SAMPLES / 2) * step
    z = FRAME_TOP - (np.arange(rows * SAMPLES) + 0.5) * step
    x, z = (axis.ravel() for axis in np.meshgrid(x, z))
    way = np.stack([x, np.zeros_like(x), z], -1) - EYE
    way /= np.linalg.norm(way, axis=-1, keepdims=True)

    solids = [*camera(), *neighbours(), turned(500, -1, 0, lawn)]
    met, points, normals, reflectance = look(solids, way)
    reflected = np.maximum(normals @ REFLECTED, 0)
    light = 0.24 + 0.10 * normals[:, 2] + 0.26 * reflected + 0.95 * sunlight(solids, points, normals)
    haze = np.where(points[:, 1] > BEHIND, np.clip(points[:, 1] / 120, 0, 0.42), 0)
    grey = sky(x, z)
    grey[met] = (1 - haze) * reflectance * light + haze * 0.95

    grey = np.clip((grey - 0.06) / 0.90, 0, 1)
    grey = grey.reshape(rows, SAMPLES, columns, SAMPLES).mean((1, 3))
    edges = np.pad(grey, 1, mode="edge")
    blurred = sum(edges[i : i + rows, j : j + columns] for i in range(3) for j in range(3)) / 9
    sharp = np.clip(grey + 0.8 * (grey - blurred), 0, 1)  # makes up for the detail that dithering loses
    return np.rint(255 * sharp) / 255
