"""What AIConfigurator 0.12.0 does on measured runs, for comparison.

Mean / median absolute error over the rows that it ships (duplicates removed), TPOT then TTFT, in
%, from its own estimates of these rows; it answered 71 % of them from tables. The slices by
engine are without MTP. It was given the rows as they are, nothing was fitted or left out.
"""

PEER = {
    "aggregated": "TPOT 20.4 / 14.4, TTFT 50.1 / 49.4",
    "aggregated, trtllm": "TPOT 12.8 / 9.6, TTFT 49.1 / 45.8",
    "aggregated, sglang": "TPOT 21.8 / 17.5, TTFT 69.8 / 75.7",
    "aggregated, vllm": "TPOT 26.1 / 16.0, TTFT 43.7 / 43.4",
    "disaggregated": "TPOT 33.1 / 23.3, TTFT 67.5 / 75.3",
    "disaggregated, GB200": "TPOT 50.1, TTFT 68.4 (mean)",
}
PEER_CHOICE = (
    "AIConfigurator: 14.9 % break the limit, the others deliver 94 % (10th percentile 67 %)"
)
