"""Turns what neural-lam's network returns for a batch into forecasts in physical units, and has them written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mllam_exps.stages.neural_lam.forecasts.store import Store, Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Captured:
    """Writes the forecasts of batches to a store.

    Parameters
    ----------
    store : Store
        Laid out.
    model : neural_lam.models.module.ForecasterModule
        It knows mean and standard deviation, by which its numbers are normalised.
    """

    def __init__(self, store: Store, model: Any) -> None:
        self.store = store
        self.model = model
        names = model.datastore.get_vars_names("state")
        kept = set(store.layout.names)
        self._places = {name: at for at, name in enumerate(names) if name in kept}

    def write(self, units: Sequence[Unit], prediction: Any, spread: Any) -> None:
        """Write a batch.

        Parameters
        ----------
        units : sequence of Unit
            Which forecasts it holds.
        prediction : torch.Tensor
            Normalised, by forecast, lead time, point and variable.
        spread : torch.Tensor or None
            The standard deviations, where the model forecasts them.
        """
        model = self.model
        values = physical(prediction * model.state_std + model.state_mean)
        spreads = None if spread is None else physical(spread * model.state_std)
        for number, unit in enumerate(units):
            fields = {
                name: values[number, ..., at] for name, at in self._places.items()
            }
            if spreads is not None:
                for name, at in self._places.items():
                    fields[f"{name}_std"] = spreads[number, ..., at]
            self.store.write(unit, fields)

    def units_of(self, valid_times: Any) -> Iterator[Unit]:
        """Yield which forecasts a batch holds, by its valid times; of ensembles these don't say it."""
        import numpy as np

        layout = self.store.layout
        starts = np.asarray(layout.starts, "datetime64[s]")
        first = valid_times[:, 0].cpu().numpy().astype("datetime64[ns]")
        for start in first.astype("datetime64[s]") - layout.step:
            yield Unit(int(np.searchsorted(starts, start)))


def physical(values: Any) -> NDArray[np.float32]:
    """Return a tensor as an array of the host's."""
    array: NDArray[np.float32] = values.detach().float().cpu().numpy()
    return array
