"""The cases of test_commands.py: for each command, and each model file, words that it is run with.

Movies are 5 frames of 37 x 52 with 962 visited pixels each wherever the option under test allows
it, so that the cases share compiled programs.
"""

HALF = "--rate 0.5"  # 962 of 1924 pixels

# Per mixture model: the movie and the options; compare and posterior take those they have.
MOVIE_CASES = {
    "paper": f"movie.tif {HALF}",
    "plain_k3": f"movie.npy {HALF} --pixel-size '28.2 nm' --frame-interval '0.6 s' --seed 3 "
    "--figures pdf --figure-width two",
    "linear_k3": "movie.tif --visited mask.tif",
    "linear_k4": "sparse.npy --missing 0",
    "quadratic_k3": f"movie.tif {HALF} --pattern stratified --baseline first",
    "quadratic_k4": f"large.tif {HALF} --crop 1:38,2:54 --frames 1:6",
    "shared_k4": "movie.tif --rate 0.50261 --exclude 0:2,0:4 --exclude 36:37,50:52",
    "shared_k4_soft": f"movie.tif {HALF} --roi mask.tif",
    "shared_k3_grows": f"movie.tif {HALF} --pattern lines --thickness '0.5 um' --smooth linear",
    "student_t_k4": f"movie.tif {HALF} --pattern stratified",
    "poisson_gaussian_k4": f"movie.tif {HALF}",
    "local_k4": f"movie.tif {HALF} --pattern random --dense",
    "local_k4_causal": f"movie.tif {HALF}",
    "local_k3_grows": f"movie.tif {HALF} --pattern lines",
}
POSTERIOR = {
    "paper": "method = 'laplace'",
    "plain_k3": "method = 'laplace'",
    "linear_k3": "method = 'laplace'\ncensoring = 'saturated'\nsaturation = 255.0",
    "linear_k4": "method = 'svi'\nsteps = 20",
    "quadratic_k3": "method = 'nuts'\nwarmup = 50\ntarget_accept = 0.9",
    "quadratic_k4": "method = 'laplace'",
    "shared_k4": "method = 'laplace'\nlog_likelihood_every = 10\n[posterior.priors]\nreference = 1",
    "shared_k4_soft": "method = 'laplace'",
    "student_t_k4": "method = 'laplace'",
    "poisson_gaussian_k4": "method = 'laplace'",
    "shared_k3_grows": "method = 'nuts'\nwarmup = 50\nplacement = 'vectorized'",
    "local_k4": "method = 'laplace'",
    "local_k4_causal": "method = 'svi'\nsteps = 20",
    "local_k3_grows": "method = 'nuts'\nwarmup = 50",
}
# What the user may say of a model that the movie is to choose.
ASKED = f"movie.tif {HALF} --classes 2,3 --trend x --share means,sds --foreground brightest"
ASKED += " --estimator count --overlay --hspy --excel"
# A grid of models without files.
GRID = f"movie.tif {HALF} --classes 2:3 --trend x --family gaussian --every 2 --tests all "
GRID += "--test 'k2 x vs k3 x' --bootstrap 19"

LENGTHS = "--psf-fwhm '60 nm' --train-fwhm '15 nm'"
ENHANCE_CASES = {
    "enhance_coupled": f"--train stem_0.tif --apply txm.tif {LENGTHS} --patch-size 6 --atoms 32 "
    "--upscale 2 --reference truth_0.tif --reference truth_1.tif --stride 2 --no-evidence --seed 4 "
    "--depth 0.5",
    "enhance_paper": "--train bare.tif --train-pixel-size '15 nm' --apply slice.tif --atoms 32 "
    "--apply-pixel-size '30 nm' --roi good.tif --patch-size 6 --stride 2 "
    "--hspy --figures svg --figure-width one",
    "enhance_nonnegative": f"--train stem_0.tif --apply slice.tif --apply-pixel-size '30 nm' "
    f"{LENGTHS} --penalty 1.7 --patch-size 6 --atoms 32 --stride 3 --invert --no-evidence",
    "enhance_optax": f"--train stem_0.tif --apply slice.tif --apply-pixel-size '30 nm' "
    f"{LENGTHS} --penalty auto --patch-size 6 --atoms 32 --stride 3 --no-evidence "
    "--crop 0:75,0:83 --frames 0:1",
    "enhance_refined": f"--train stem_0.tif --apply slice.tif --apply-pixel-size '30 nm' "
    f"{LENGTHS} --patch-size 6 --atoms 32 --stride 3 --no-evidence",
}
RESUMED = ENHANCE_CASES["enhance_optax"] + " --resume learning.npz"
REUSED = "--dictionary dictionary.npz --apply slice.tif --apply-pixel-size '30 nm' --no-evidence"
# The first is what the tests of the study run, the second only names options that others share.
STUDY_CASES = [
    "movie.tif shared_k4 --rates 0.5 --replicates 2 --frames 0:5 --pattern stratified --seed 3 "
    "--estimator posterior --foreground brightest --roi mask.tif --truth truth.csv --thickness "
    "'0.5 um' --pixel-size '20 nm' --frame-interval '0.5 s' --figures svg --figure-width one",
    "movie.tif --rates 0.5 --crop 1:38,2:54 --exclude 0:2,0:4 --classes 3 --trend x --share means "
    "--workers 2 --scheduler tcp://127.0.0.1:8786",
]
# What tests/app/test_cli_plan.py runs, and options that others share.
PLAN_CASES = [
    "movie.tif --target-se '8 %' --pattern random --replicates 3 --estimator count --classes 2 "
    "--foreground brightest --pixel-size '20 nm' --trend x --share means --seed 3 --roi mask.tif "
    "--crop 1:38,2:54 --exclude 0:2,0:4 --frames 0:5 --frame-interval '0.5 s' --thickness '0.5 um' "
    "--figures svg --figure-width one",
]
SCENES = {
    "phantom operando": "--seed 2 --n-frames 4 --size 40 --scene rods",
    "phantom stem-txm": "--seed 2 --size 64 --n-slices 2 --noise 0.1",
    "demo": "--seed 2 --n-frames 5 --size 96",
}
VOLUME = "--seed 2 --size 64 --slices 2"
# Every case here gives the first three, where the command has them; the last writes nothing.
ALWAYS = {"--out", "--force", "--model", "--dry-run"}

USED = {
    "quantify": [*MOVIE_CASES.values(), ASKED],
    "compare": [*MOVIE_CASES.values(), GRID],
    "posterior": [MOVIE_CASES[name] for name in POSTERIOR],
    "enhance": [*ENHANCE_CASES.values(), RESUMED, REUSED],
    **{command: [text] for command, text in SCENES.items()},
    "phantom stem-txm": [SCENES["phantom stem-txm"], VOLUME],
    "study": STUDY_CASES,
    "plan": PLAN_CASES,
    "info": [],
    "models": [],
}
