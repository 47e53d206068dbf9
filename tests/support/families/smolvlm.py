"""SmolVLM2: 4 tokens a tile or video frame."""

LIKE = "idefics3"
FAMILY = {
    "model": "SmolVLMForConditionalGeneration",
    "processor": "SmolVLMProcessor",
    "parts": {
        "image_processor": (
            "SmolVLMImageProcessor",
            {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}},
        ),
        "video_processor": (
            "SmolVLMVideoProcessor",
            {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 56}},
        ),
    },
    "tokens": {
        "video_token": "<video>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    },
    "show": {"video": "<video>"},
}
