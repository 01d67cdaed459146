from otter.test_files import test_case

OK_FORMAT = False

name = "q6"
points = 3


@test_case(
    points=1,
    hidden=False,
    failure_message="The logits of a patient depend on the others in the batch, so the network was still learning.",
)
def test_q6_eval(predict):
    import torch
    from torch import nn

    torch.manual_seed(8)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(48, 2)
    )
    x = torch.randn(5, 1, 5, 6)
    assert torch.allclose(predict(network, x[:1]), predict(network, x)[:1], atol=1e-05)


@test_case(
    points=1,
    hidden=False,
    failure_message="The network should come back in the mode in which it went in. It may have been either.",
)
def test_q6_mode(predict):
    import torch
    from torch import nn

    network = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(4, 2))
    x = torch.rand(3, 1, 2, 2)
    for training in (True, False):
        assert predict(network.train(training), x).shape == (3, 2)
        assert all(layer.training == training for layer in network.modules())
