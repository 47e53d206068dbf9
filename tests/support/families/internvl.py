"""InternVL: 4 tokens a tile, 1 to 12 tiles an image and one more that shows the whole; a video is a list of frames."""

SIZE = {"height": 56, "width": 56}

FAMILY = {
    "model": "InternVLForConditionalGeneration",
    "processor": "InternVLProcessor",
    "config": {
        "text_config": {"DECODER": True, "model_type": "qwen2"},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [56, 56],
            "patch_size": [14, 14],
        },
        "image_token_id": "<IMG_CONTEXT>",
        "image_seq_length": 4,
        "tie_word_embeddings": False,
    },
    "parts": {
        "image_processor": ("GotOcr2ImageProcessor", {"size": SIZE, "crop_to_patches": True}),
        "video_processor": ("InternVLVideoProcessor", {"size": SIZE}),
    },
    "processor_arguments": {"image_seq_length": 4},
    "tokens": {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    "show": {"image": "<IMG_CONTEXT>\n", "video": "<video>\n"},
}
