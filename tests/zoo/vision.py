"""Models of images and videos, detection among them."""

import torch

from perfsuite.protocols import Inputs
from tests.zoo.entry import hugging_face
from tests.zoo.inputs import IMAGE, VOCABULARY, large_pixels, larger_pixels, noise, pixels, tokens, video

SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
VIT = {**SIZES, "image_size": IMAGE, "patch_size": 4}
SWIN = {"image_size": IMAGE, "patch_size": 4, "embed_dim": 64, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
STAGES = {"hidden_sizes": [64, 128], "depths": [1, 2]}
RESNET = {
    "embedding_size": 32, "hidden_sizes": [64, 128], "depths": [1, 2], "out_features": ["stage1", "stage2"],
}  # fmt: skip
DETR = {
    "d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "num_queries": 6,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "num_labels": 5,
    "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None,
    "backbone_config": {"model_type": "resnet", **RESNET},
}  # fmt: skip
DEFORMABLE = {**DETR, "num_feature_levels": 2, "encoder_n_points": 2, "decoder_n_points": 2}


def sam(module, seed):
    points = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(seed)) * 64
    return Inputs(kwargs={"pixel_values": noise(seed, 2, 3, 64, 64), "input_points": points})


ENTRIES = (
    hugging_face("ViTModel", pixels, **VIT),
    hugging_face("ViTForImageClassification", pixels, num_labels=5, **VIT),
    hugging_face("DeiTModel", pixels, **VIT),
    hugging_face("BeitModel", pixels, use_relative_position_bias=True, **VIT),
    hugging_face("Data2VecVisionModel", pixels, **VIT),
    hugging_face("Dinov2Model", pixels, mlp_ratio=2, **{**VIT, "intermediate_size": 256}),
    hugging_face("DINOv3ViTModel", pixels, num_register_tokens=2, **VIT),
    hugging_face("IJepaModel", pixels, **VIT),
    hugging_face("ViTMSNModel", pixels, **VIT),
    hugging_face("SiglipVisionModel", pixels, **VIT),
    hugging_face("CLIPVisionModel", pixels, projection_dim=64, **VIT),
    hugging_face("SwinModel", pixels, **SWIN),
    hugging_face("SwinForImageClassification", pixels, num_labels=5, **SWIN),
    hugging_face("Swinv2Model", pixels, **SWIN),
    hugging_face("Swin2SRModel", pixels, num_channels=3, **{**SWIN, "patch_size": 1, "depths": [1, 1],
                                                           "num_heads": [2, 2]}),
    hugging_face("HieraModel", pixels, image_size=[IMAGE, IMAGE], embed_dim=64, depths=[1, 1], num_heads=[2, 4],
                 num_query_pool=1, masked_unit_size=[4, 4], patch_size=[7, 7]),
    hugging_face("ConvNextModel", pixels, num_stages=2, **STAGES),
    hugging_face("ConvNextV2Model", pixels, num_stages=2, **STAGES),
    hugging_face("ResNetModel", pixels, **RESNET),
    hugging_face("ResNetForImageClassification", pixels, name="ResNet, basic layers", layer_type="basic", **RESNET),
    hugging_face("RegNetModel", pixels, embedding_size=32, groups_width=16, **STAGES),
    hugging_face("BitModel", pixels, embedding_size=32, num_groups=8, **STAGES),
    hugging_face("MobileNetV1Model", larger_pixels, depth_multiplier=0.25, min_depth=16),
    hugging_face("MobileNetV2Model", larger_pixels, depth_multiplier=0.35),
    hugging_face("EfficientNetModel", pixels, image_size=IMAGE, in_channels=[32, 16], out_channels=[16, 32],
                 kernel_sizes=[3, 5], strides=[1, 2], expand_ratios=[1, 4], num_block_repeats=[1, 2], hidden_dim=1280,
                 depthwise_padding=[], width_coefficient=1.0, depth_coefficient=1.0),
    hugging_face("MobileViTModel", large_pixels, seed=5, image_size=64, hidden_sizes=[32, 48, 64],
                 neck_hidden_sizes=[8, 16, 24, 32, 48, 64, 128], num_attention_heads=4),
    hugging_face("MobileViTV2Model", larger_pixels, image_size=128, width_multiplier=0.25),
    hugging_face("SegformerModel", large_pixels, num_encoder_blocks=2, depths=[1, 1], sr_ratios=[4, 2],
                 hidden_sizes=[64, 128], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[2, 4],
                 mlp_ratios=[2, 2], decoder_hidden_size=64),
    hugging_face("PvtModel", large_pixels, image_size=64, num_encoder_blocks=2, depths=[1, 1],
                 sequence_reduction_ratios=[4, 1], hidden_sizes=[64, 128], patch_sizes=[4, 2], strides=[4, 2],
                 num_attention_heads=[2, 4], mlp_ratios=[2, 2]),
    hugging_face("PvtV2Model", large_pixels, image_size=64, num_encoder_blocks=2, depths=[1, 1], sr_ratios=[4, 2],
                 hidden_sizes=[64, 128], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[2, 4],
                 mlp_ratios=[2, 2]),
    hugging_face("PoolFormerModel", large_pixels, depths=[1, 1], hidden_sizes=[64, 128], num_encoder_blocks=2,
                 patch_sizes=[7, 3], strides=[4, 2], padding=[2, 1]),
    hugging_face("LevitModel", larger_pixels, image_size=128, hidden_sizes=[64, 96, 128], num_attention_heads=[2, 3,
                 4], depths=[1, 1, 1], key_dim=[16, 16, 16], down_ops=[["Subsample", 16, 4, 4, 2, 2], ["Subsample", 16,
                 6, 4, 2, 2]]),
    hugging_face("CvtModel", large_pixels, patch_sizes=[7, 3], patch_stride=[4, 2], patch_padding=[2, 1],
                 embed_dim=[64, 128], num_heads=[2, 4], depth=[1, 2], mlp_ratio=[2.0, 2.0], attention_drop_rate=[0.0,
                 0.0], drop_rate=[0.0, 0.0], drop_path_rate=[0.0, 0.0], qkv_bias=[True, True], cls_token=[False, True],
                 qkv_projection_method=["dw_bn", "dw_bn"], kernel_qkv=[3, 3], padding_kv=[1, 1], stride_kv=[2, 2],
                 padding_q=[1, 1], stride_q=[1, 1]),
    hugging_face("FocalNetModel", pixels, image_size=IMAGE, embed_dim=64, hidden_sizes=[64, 128], depths=[1, 1],
                 focal_levels=[2, 2], focal_windows=[3, 3]),
    hugging_face("SwiftFormerModel", large_pixels, image_size=64, depths=[1, 1, 1, 1],
                 embed_dims=[24, 32, 48, 64], mlp_ratio=2),
    hugging_face("TextNetModel", larger_pixels, image_size=[128, 128], stem_out_channels=16, hidden_sizes=[16, 32, 32,
                 48, 64]),
    hugging_face("VideoMAEModel", video, num_frames=4, **VIT),
    hugging_face("TimesformerModel", video, num_frames=4, **VIT),
    hugging_face("VivitModel", video, num_frames=4, tubelet_size=[2, 8, 8], **SIZES, image_size=IMAGE),
    hugging_face("DPTForDepthEstimation", large_pixels, seed=5, backbone_out_indices=[0, 1, 2, 3],
                 neck_hidden_sizes=[16, 32, 64, 64], fusion_hidden_size=32, reassemble_factors=[4, 2, 1, 0.5],
                 **{**VIT, "image_size": 64, "num_hidden_layers": 4}),
    hugging_face("GLPNForDepthEstimation", large_pixels, num_encoder_blocks=4, depths=[1, 1, 1, 1],
                 hidden_sizes=[16, 32, 64, 128], num_attention_heads=[1, 2, 4, 4], decoder_hidden_size=32),
    hugging_face("YolosForObjectDetection", large_pixels, num_detection_tokens=6, num_labels=5,
                 **{**VIT, "image_size": [64, 64]}),
    hugging_face("DetrForObjectDetection", large_pixels, **DETR),
    hugging_face("ConditionalDetrForObjectDetection", large_pixels, **DETR),
    hugging_face("TableTransformerForObjectDetection", large_pixels, **DETR),
    hugging_face("DeformableDetrForObjectDetection", large_pixels, **DEFORMABLE),
    hugging_face("SamModel", sam, vision_config={**VIT, "image_size": 64, "patch_size": 8, "output_channels": 32,
                 "mlp_dim": 256, "num_pos_feats": 16, "global_attn_indexes": [1], "window_size": 4},
                 prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 8, "image_embedding_size":
                 8, "mask_input_channels": 8}, mask_decoder_config={"hidden_size": 32, "num_attention_heads": 4,
                 "mlp_dim": 64, "iou_head_hidden_dim": 32}),
    hugging_face("ImageGPTModel", tokens, vocab_size=VOCABULARY, n_embd=128,
                 n_layer=2, n_head=4, n_positions=32),
)  # fmt: skip
