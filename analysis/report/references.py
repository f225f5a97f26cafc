"""References that a report may cite."""

from __future__ import annotations

from eus_ray.analysis.report.reference import Reference

REFERENCES = {
    "seo": Reference(
        "Seo, K. and Lim, J.-H. and Seo, J. and Nguon, L. S. and Yoon, H. and Park, J.-S. and Park, S.",
        2022,
        "Semantic Segmentation of Pancreatic Cancer in Endoscopic Ultrasound Images Using Deep Learning Approach",
        "Cancers",
        "14",
        "20",
        "5111",
        "10.3390/cancers14205111",
    ),
    "ronneberger": Reference(
        "Ronneberger, O. and Fischer, P. and Brox, T.",
        2015,
        "U-Net: Convolutional Networks for Biomedical Image Segmentation",
        "MICCAI 2015, Lecture Notes in Computer Science",
        "9351",
        pages="234–241",
        doi="10.1007/978-3-319-24574-4_28",
        entry="inproceedings",
    ),
    "oktay": Reference(
        "Oktay, O. and Schlemper, J. and Le Folgoc, L. and Lee, M. and Heinrich, M. and Misawa, K. and others",
        2018,
        "Attention U-Net: Learning Where to Look for the Pancreas",
        "Medical Imaging with Deep Learning",
        arxiv="1804.03999",
        entry="inproceedings",
    ),
    "wang": Reference(
        "Wang, Y. and Deng, Z. and Hu, X. and Zhu, L. and Yang, X. and Xu, X. and Heng, P.-A. and Ni, D.",
        2018,
        "Deep Attentional Features for Prostate Segmentation in Ultrasound",
        "MICCAI 2018, Lecture Notes in Computer Science",
        "11073",
        pages="523–530",
        entry="inproceedings",
    ),
    "wightman": Reference(
        "Wightman, R.", 2019, "PyTorch Image Models", "GitHub", doi="10.5281/zenodo.4414861", entry="misc"
    ),
    "moritz": Reference(
        "Moritz, P. and Nishihara, R. and Wang, S. and Tumanov, A. and Liaw, R. and Liang, E. and others",
        2018,
        "Ray: A Distributed Framework for Emerging AI Applications",
        "13th USENIX Symposium on Operating Systems Design and Implementation",
        pages="561–577",
        entry="inproceedings",
    ),
    "liaw": Reference(
        "Liaw, R. and Liang, E. and Nishihara, R. and Moritz, P. and Gonzalez, J. E. and Stoica, I.",
        2018,
        "Tune: A Research Platform for Distributed Model Selection and Training",
        "arXiv preprint",
        arxiv="1807.05118",
    ),
    "akiba": Reference(
        "Akiba, T. and Sano, S. and Yanase, T. and Ohta, T. and Koyama, M.",
        2019,
        "Optuna: A Next-generation Hyperparameter Optimization Framework",
        "25th ACM SIGKDD International Conference on Knowledge Discovery and Data Mining",
        pages="2623–2631",
        doi="10.1145/3292500.3330701",
        entry="inproceedings",
    ),
    "bergstra": Reference(
        "Bergstra, J. and Bardenet, R. and Bengio, Y. and Kégl, B.",
        2011,
        "Algorithms for Hyper-Parameter Optimization",
        "Advances in Neural Information Processing Systems",
        "24",
        pages="2546–2554",
        entry="inproceedings",
    ),
    "li": Reference(
        "Li, L. and Jamieson, K. and Rostamizadeh, A. and Gonina, E. and Ben-tzur, J. and Hardt, M. and others",
        2020,
        "A System for Massively Parallel Hyperparameter Tuning",
        "Proceedings of Machine Learning and Systems",
        "2",
        arxiv="1810.05934",
        entry="inproceedings",
    ),
    "paszke": Reference(
        "Paszke, A. and Gross, S. and Massa, F. and Lerer, A. and Bradbury, J. and Chanan, G. and others",
        2019,
        "PyTorch: An Imperative Style, High-Performance Deep Learning Library",
        "Advances in Neural Information Processing Systems",
        "32",
        pages="8024–8035",
        entry="inproceedings",
    ),
    "tsamardinos": Reference(
        "Tsamardinos, I. and Greasidou, E. and Borboudakis, G.",
        2018,
        "Bootstrapping the out-of-sample predictions for efficient and accurate cross-validation",
        "Machine Learning",
        "107",
        pages="1895–1922",
        doi="10.1007/s10994-018-5714-4",
    ),
    "nadeau": Reference(
        "Nadeau, C. and Bengio, Y.",
        2003,
        "Inference for the Generalization Error",
        "Machine Learning",
        "52",
        "3",
        "239–281",
        "10.1023/A:1024068626366",
    ),
    "wilcoxon": Reference(
        "Wilcoxon, F.", 1945, "Individual Comparisons by Ranking Methods", "Biometrics Bulletin", "1", "6", "80–83"
    ),
    "holm": Reference(
        "Holm, S.",
        1979,
        "A Simple Sequentially Rejective Multiple Test Procedure",
        "Scandinavian Journal of Statistics",
        "6",
        "2",
        "65–70",
    ),
    "demsar": Reference(
        "Demšar, J.",
        2006,
        "Statistical Comparisons of Classifiers over Multiple Data Sets",
        "Journal of Machine Learning Research",
        "7",
        pages="1–30",
    ),
    "schuirmann": Reference(
        "Schuirmann, D. J.",
        1987,
        "A comparison of the two one-sided tests procedure and the power approach for assessing the equivalence of "
        "average bioavailability",
        "Journal of Pharmacokinetics and Biopharmaceutics",
        "15",
        "6",
        "657–680",
    ),
    "kruskal": Reference(
        "Kruskal, W. H. and Wallis, W. A.",
        1952,
        "Use of Ranks in One-Criterion Variance Analysis",
        "Journal of the American Statistical Association",
        "47",
        "260",
        "583–621",
    ),
    "dunn": Reference(
        "Dunn, O. J.", 1964, "Multiple Comparisons Using Rank Sums", "Technometrics", "6", "3", "241–252"
    ),
    "shapiro": Reference(
        "Shapiro, S. S. and Wilk, M. B.",
        1965,
        "An Analysis of Variance Test for Normality (Complete Samples)",
        "Biometrika",
        "52",
        "3–4",
        "591–611",
    ),
    "pitman": Reference(
        "Pitman, E. J. G.",
        1937,
        "Significance Tests Which May be Applied to Samples from any Populations",
        "Supplement to the Journal of the Royal Statistical Society",
        "4",
        "1",
        "119–130",
        doi="10.2307/2984124",
    ),
    "nikolov": Reference(
        "Nikolov, S. and Blackwell, S. and Zverovitch, A. and others",
        2021,
        "Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy: Deep Learning Algorithm "
        "Development and Validation Study",
        "Journal of Medical Internet Research",
        "23",
        "7",
        "e26151",
        doi="10.2196/26151",
    ),
    "brier": Reference(
        "Brier, G. W.",
        1950,
        "Verification of Forecasts Expressed in Terms of Probability",
        "Monthly Weather Review",
        "78",
        "1",
        "1–3",
    ),
    "guo": Reference(
        "Guo, C. and Pleiss, G. and Sun, Y. and Weinberger, K. Q.",
        2017,
        "On Calibration of Modern Neural Networks",
        "Proceedings of the 34th International Conference on Machine Learning",
        "70",
        pages="1321–1330",
        entry="inproceedings",
    ),
    "smp": Reference("Iakubovskii, P.", 2019, "Segmentation Models Pytorch", "GitHub", entry="misc"),
    "unetpp": Reference(
        "Zhou, Z. and Rahman Siddiquee, M. M. and Tajbakhsh, N. and Liang, J.",
        2018,
        "UNet++: A Nested U-Net Architecture for Medical Image Segmentation",
        "DLMIA 2018, Lecture Notes in Computer Science",
        "11045",
        pages="3–11",
        doi="10.1007/978-3-030-00889-5_1",
        entry="inproceedings",
    ),
    "manet": Reference(
        "Fan, T. and Wang, G. and Li, Y. and Wang, H.",
        2020,
        "MA-Net: A Multi-Scale Attention Network for Liver and Tumor Segmentation",
        "IEEE Access",
        "8",
        pages="179656–179665",
        doi="10.1109/ACCESS.2020.3025372",
    ),
    "linknet": Reference(
        "Chaurasia, A. and Culurciello, E.",
        2017,
        "LinkNet: Exploiting Encoder Representations for Efficient Semantic Segmentation",
        "IEEE Visual Communications and Image Processing",
        doi="10.1109/VCIP.2017.8305148",
        entry="inproceedings",
    ),
    "fpn": Reference(
        "Lin, T.-Y. and Dollár, P. and Girshick, R. and He, K. and Hariharan, B. and Belongie, S.",
        2017,
        "Feature Pyramid Networks for Object Detection",
        "IEEE Conference on Computer Vision and Pattern Recognition",
        pages="936–944",
        doi="10.1109/CVPR.2017.106",
        entry="inproceedings",
    ),
    "pspnet": Reference(
        "Zhao, H. and Shi, J. and Qi, X. and Wang, X. and Jia, J.",
        2017,
        "Pyramid Scene Parsing Network",
        "IEEE Conference on Computer Vision and Pattern Recognition",
        pages="6230–6239",
        doi="10.1109/CVPR.2017.660",
        entry="inproceedings",
    ),
    "pan": Reference(
        "Li, H. and Xiong, P. and An, J. and Wang, L.",
        2018,
        "Pyramid Attention Network for Semantic Segmentation",
        "British Machine Vision Conference",
        arxiv="1805.10180",
        entry="inproceedings",
    ),
    "deeplabv3": Reference(
        "Chen, L.-C. and Papandreou, G. and Schroff, F. and Adam, H.",
        2017,
        "Rethinking Atrous Convolution for Semantic Image Segmentation",
        "arXiv",
        arxiv="1706.05587",
        entry="misc",
    ),
    "deeplabv3plus": Reference(
        "Chen, L.-C. and Zhu, Y. and Papandreou, G. and Schroff, F. and Adam, H.",
        2018,
        "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
        "ECCV 2018, Lecture Notes in Computer Science",
        "11211",
        doi="10.1007/978-3-030-01234-2_49",
        entry="inproceedings",
    ),
    "upernet": Reference(
        "Xiao, T. and Liu, Y. and Zhou, B. and Jiang, Y. and Sun, J.",
        2018,
        "Unified Perceptual Parsing for Scene Understanding",
        "European Conference on Computer Vision",
        arxiv="1807.10221",
        entry="inproceedings",
    ),
    "segformer": Reference(
        "Xie, E. and Wang, W. and Yu, Z. and Anandkumar, A. and Alvarez, J. M. and Luo, P.",
        2021,
        "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers",
        "Advances in Neural Information Processing Systems",
        "34",
        pages="12077–12090",
        arxiv="2105.15203",
        entry="inproceedings",
    ),
    "dpt": Reference(
        "Ranftl, R. and Bochkovskiy, A. and Koltun, V.",
        2021,
        "Vision Transformers for Dense Prediction",
        "IEEE/CVF International Conference on Computer Vision",
        arxiv="2103.13413",
        entry="inproceedings",
    ),
}
"""By the key that a text cites."""


class Citations:
    """Cite references in a text and remember them for the list."""

    def __init__(self) -> None:
        """Begin without citations."""
        self._cited: set[str] = set()

    def __call__(self, *keys: str) -> str:
        """Cite in brackets: `Holm, 1979; Demšar, 2006`.

        Raises:
            KeyError: If a key is unknown.
        """
        self._cited.update(keys)
        return "; ".join(REFERENCES[key].short for key in keys)

    def named(self, key: str) -> str:
        """Cite as part of a sentence: `Seo et al. (2022)`."""
        self._cited.add(key)
        names, year = REFERENCES[key].short.rsplit(", ", 1)
        return f"{names} ({year})"

    @property
    def texts(self) -> list[str]:
        """Return the list of references, by first author."""
        return sorted((REFERENCES[key].text for key in self._cited), key=str.casefold)

    @property
    def bibtex(self) -> str:
        """Return the cited references as BibTeX."""
        return "\n\n".join(REFERENCES[key].bibtex(key) for key in sorted(self._cited))
