// The settings reach the views as attributes of the page's body, which their style sheets and scripts read.

import { ISettingRegistry } from '@jupyterlab/settingregistry';

const ATTRIBUTES: Record<string, string> = {
  animationSpeed: 'vlabSpeed',
  numberBase: 'vlabBase',
  palette: 'vlabPalette'
};

/** Follow the settings: data-vlab-speed, data-vlab-base and data-vlab-palette. */
export async function followSettings(registry: ISettingRegistry, plugin: string): Promise<void> {
  const settings = await registry.load(plugin);
  const apply = () => {
    for (const [name, attribute] of Object.entries(ATTRIBUTES)) {
      const value = String(settings.get(name).composite);
      if (document.body.dataset[attribute] !== value) {
        document.body.dataset[attribute] = value;
      }
    }
  };
  settings.changed.connect(apply);
  apply();
}
