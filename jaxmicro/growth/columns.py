"""The columns of growth.csv: their units and what they hold."""

from jaxmicro.growth.intervals import LEVELS

MEANINGS = {
    "frame": ("", "number of the frame among those that were measured, from 0"),
    "source_frame": ("", "number of the frame in the movie that was read, from 0"),
    "time_s": ("s", "start of the frame, in the time of the movie that was read"),
    "area_px": ("pixels", "area of the foreground"),
    "area_px_se": ("pixels", "its standard error"),
    "area_um2": ("um2", "area of the foreground"),
    "area_um2_se": ("um2", "its standard error"),
    "volume_um3": ("um3", "area times thickness"),
    "volume_um3_se": ("um3", "its standard error"),
    **{
        f"{kind}_{end}{level}": (unit, f"{place} end of its {level} % interval")
        for kind, unit in (("area_px", "pixels"), ("area_um2", "um2"), ("volume_um3", "um3"))
        for level in LEVELS
        for end, place in (("lo", "lower"), ("hi", "upper"))
    },
    "area_px_smooth": ("pixels", "area smoothed over time by a local-level model (--smooth)"),
    "area_px_smooth_se": ("pixels", "its standard error, given all frames"),
    "area_um2_smooth": ("um2", "area smoothed over time by a local-level model (--smooth)"),
    "area_um2_smooth_se": ("um2", "its standard error, given all frames"),
    "share_of_frame": ("1", "area_px / region_px"),
    "visited_share": ("1", "visited_px / region_px"),
    "growth_px_per_frame": ("pixels/frame", "rate of growth: see growth_um2_per_s"),
    "growth_px_per_frame_se": ("pixels/frame", "its standard error"),
    "growth_um2_per_s": (
        "um2/s",
        "(area of the next frame - area of the previous frame) / time between them; the first and "
        "the last frame take their own area in the place of the one that is missing",
    ),
    "growth_um2_per_s_se": (
        "um2/s",
        "root of the sum of both areas' squared standard errors, over the same time",
    ),
    "result": ("", "how the fit ended"),
    "usable": ("", "whether the area may be used"),
    "check": ("", "ok, or what speaks against the fit"),
    "foreground_classes": ("", "ranks of the classes that were measured, 0 is the darkest"),
    "region_px": ("pixels", "pixels of the frame that the area is an area of"),
    "visited_px": ("pixels", "those of them that were visited"),
    "pixel_size_y_nm": ("nm", "height of a pixel"),
    "pixel_size_x_nm": ("nm", "width of a pixel"),
    "thickness_um": ("um", "thickness along the beam"),
    "thickness_se_um": ("um", "its standard error, which is part of that of the volumes"),
}
COLUMNS = tuple(MEANINGS)
# The same in every row, so that the table stands alone without lines that are no rows.
CONSTANT_COLUMNS = (
    "foreground_classes",
    "pixel_size_y_nm",
    "pixel_size_x_nm",
    "thickness_um",
    "thickness_se_um",
)
